"""The auditor's table, rules and records for one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parties.journal import Journal
from secure_fair.data.attributes import AttributeTable
from secure_fair.privacy.ledger import Ledger
from secure_fair.privacy.policy import Policy
from secure_fair.settings import Settings


@dataclass(repr=False)
class Audited:
    """What the auditor brings to a run."""

    settings: Settings
    policy: Policy
    table: AttributeTable
    ids: tuple[str, ...]  # the agreed order
    ledger: Ledger
    log: Journal
    developer: str  # its fingerprint
    checkpoints: Path  # folder of all runs'

    @property
    def columns(self) -> tuple[str, ...]:
        return self.settings.attributes.columns

    def categories(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each requested attribute or intersection, in order, with its names from the policy: what the codes mean."""
        return tuple(zip(self.columns, self.policy.categories_of(self.columns), strict=True))

    def groups(self) -> tuple[int, ...]:
        """K of each requested attribute or intersection."""
        return tuple(len(names) for _, names in self.categories())

    def one_hots(self, ids: Sequence[str]) -> list[np.ndarray]:
        """One-hot table [n, K] of each requested attribute or intersection."""
        return [self.table.one_hot(column, ids) for column in self.columns]

    def persons(self, ids: Sequence[str]) -> list[str]:
        return [self.table.persons[row] for row in self.table.rows(ids)]
