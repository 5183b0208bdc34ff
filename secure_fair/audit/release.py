"""What an audit releases: counts with discrete Gaussian noise, or exact counts above a threshold tested under noise.

`noised`: every count gets noise before it leaves; (epsilon, delta)-DP for a person's whole row of attributes, if the
developer's rows are what `Layout` makes and the parties do not collude. `exact`: no such guarantee; what is hidden is
hidden by a test that neither party sees without the other's noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_fair.audit.layout import Layout
from secure_fair.errors import RefusedError
from secure_fair.privacy.accountant import Cost, noise_scale
from secure_fair.releases.noise import discrete_gaussian

Words = NDArray[np.int32]
LIMIT = 2**31  # of the protocol's ring
TEST_FRACTION = 4  # a threshold is tested under noise whose scale is this part of it


@dataclass(frozen=True)
class AuditPlan:
    """Public facts of an audit, which both parties derive.

    groups: K of each attribute or intersection; records: N; per_person: most records of one person among them.
    """

    layout: Layout
    groups: tuple[int, ...]
    records: int
    per_person: int

    @property
    def shape(self) -> tuple[int, int]:
        """Of the counts: [sum of K, P]."""
        return sum(self.groups), len(self.layout.names)

    @property
    def sensitivity(self) -> float:
        """L2, rounded up: how far the counts move when one person's row of attributes is replaced.

        Each of the person's records leaves one group and enters another, in every attribute; m records move the counts
        m times as far at most (triangle inequality).
        """
        one = math.nextafter(math.sqrt(self.layout.sensitivity_squared * len(self.groups)), math.inf)
        return math.nextafter(self.per_person * one, math.inf)

    def scale(self, cost: Cost) -> float:
        """Of the noise of an audit that costs `cost`."""
        return noise_scale(cost, self.sensitivity)

    def require_range(self, scale: float) -> None:
        """Raise RefusedError if the counts plus 40 scales of noise could leave 31 bits and wrap."""
        if self.records * self.layout.largest + 40 * scale >= LIMIT:
            raise RefusedError(
                f"{self.records} records with noise of scale {scale:.3g} overflow 32 bits; ask for a larger epsilon, "
                "or audit fewer records"
            )


def threshold_scale(smallest: int) -> float:
    """Scale of the noise under which each party tests its threshold in an exact audit."""
    return max(1.0, smallest / TEST_FRACTION)


def noised(share: Words, scale: float) -> Words:
    """A share plus discrete Gaussian noise, mod 2^32."""
    noise = discrete_gaussian(share.shape, scale)
    return (share.astype(np.int64) + noise).astype(np.int32)


def consistent(
    counts: NDArray[np.float64], totals: NDArray[np.float64], groups: tuple[int, ...]
) -> NDArray[np.float64]:
    """Noised counts [sum of K, P], made to add up to what the developer knows: less noise, at no cost in privacy.

    The least-squares correction: the excess over the total, divided among the attribute's groups.
    """
    parts = np.split(counts.astype(np.float64), np.cumsum(groups)[:-1])
    return np.vstack([part - (part.sum(axis=0) - totals) / len(part) for part in parts])
