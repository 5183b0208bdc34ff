"""A budget, a cost, three persons, and a request: what the tests of the ledger share."""

from __future__ import annotations

from secure_fair.privacy.accountant import Budget, Cost, gaussian_cost
from secure_fair.privacy.ledger import Ledger, request_digest

DELTA = 1e-5
BUDGET = Budget(4.0, DELTA)
ONE = gaussian_cost(1.0, DELTA)
PERSONS = ("ada", "ben", "cem")
SUFFIXES = ("", ".key", ".counter")


def ask(ledger: Ledger, name: object, persons: tuple[str, ...] = PERSONS, cost: Cost = ONE) -> bytes:
    return ledger.answer("moment", request_digest({"name": name}), persons, cost, BUDGET, lambda: b"bytes")


def never_called() -> bytes:
    """Makes no answer."""
    raise AssertionError("an answered request was computed again")
