"""A process that uses a ledger until it is killed or told; loads neither torch nor numpy.

ledger_worker.py forever LEDGER WIRE [late]   releases one after the other, a line in WIRE for each one sent
ledger_worker.py race LEDGER                  for each line on standard input, tries to spend all of that person
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from secure_fair.errors import BudgetError
from secure_fair.privacy.accountant import Budget, gaussian_cost
from secure_fair.privacy.ledger import Ledger, request_digest

BUDGET = Budget(10000.0, 1e-5)
COST = gaussian_cost(0.5, 1e-5)
RACE_BUDGET = Budget(2.0, 1e-5)
RACE_COST = gaussian_cost(2.0, 1e-5)
PERSONS = ("ada", "ben", "cem")


class LateLedger(Ledger):
    """Mutant: hands out the bytes first and debits at the next request."""

    _owed: tuple[Any, ...] | None = None

    def answer(self, *request: Any, exact: int | None = None) -> bytes:
        if self._owed is not None:
            super().answer(*self._owed)
        self._owed = request
        answer: bytes = request[-1]()
        return answer


def forever(path: str, wire: str, late: bool) -> None:
    """Release as fast as the disk allows; what counts as sent is a line in the file `wire`."""
    out = os.open(wire, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with (LateLedger if late else Ledger)(Path(path), by_person=True) as ledger:
        while True:
            request = request_digest({"nonce": os.urandom(8).hex()})
            answer = ledger.answer("moment", request, PERSONS, COST, BUDGET, lambda: b"share")
            os.write(out, answer + b"\n")


def race(path: str) -> None:
    """Answer `won` or `lost` for each person named on standard input."""
    with Ledger(Path(path), by_person=True) as ledger:
        _say("ready")
        for line in sys.stdin:
            request = request_digest({"process": os.getpid(), "line": line})
            try:
                ledger.reserve("moment", request, [line.strip()], RACE_COST, RACE_BUDGET)
                _say("won")
            except BudgetError:
                _say("lost")


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "forever":
        forever(sys.argv[2], sys.argv[3], "late" in sys.argv[4:])
    else:
        race(sys.argv[2])
