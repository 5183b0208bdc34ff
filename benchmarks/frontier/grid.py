"""Which trainings make the frontier."""

from __future__ import annotations

import math
from dataclasses import dataclass

EPSILONS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, math.inf)
RANKS = (4, 8, 16, 32, 0)
RELEASES = ("moment", "randomized-response")
METHOD = "orth"  # trained with the soft attributes of a release


@dataclass(frozen=True)
class Arm:
    """One point of the frontier, trained once for each seed.

    release "none" is a reference in plaintext: ERM (epsilon 0: no attribute is used), or a method with the exact
    attributes. epsilon inf: without noise, which exists in this benchmark only. rank 0: features are not projected.
    """

    method: str
    release: str
    epsilon: float
    rank: int = 0

    @property
    def name(self) -> str:
        if self.release == "none":
            return f"{self.method}-plaintext"
        return f"{self.method}-{self.release}-epsilon{self.epsilon:g}-rank{self.rank}"


@dataclass(frozen=True)
class Training:
    """One training: an arm, the weight of its fairness term, and the seed of data, model, order and projection."""

    arm: Arm
    weight: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm.name}-weight{self.weight:g}-seed{self.seed}"


UNAWARE = Arm("erm", "none", 0.0)
REFERENCES = (UNAWARE, Arm(METHOD, "none", math.inf), Arm("adv", "none", math.inf))


@dataclass(frozen=True)
class Grid:
    """The epsilons at full rank, the ranks at one epsilon, and the size of each training."""

    epsilons: tuple[float, ...] = EPSILONS
    ranks: tuple[int, ...] = RANKS
    rank_epsilon: float = 2.0
    seeds: int = 3
    images: int = 6000

    def arms(self) -> tuple[Arm, ...]:
        """References first: leakage is measured against ERM of the same seed."""
        points = [(epsilon, 0) for epsilon in self.epsilons] + [(self.rank_epsilon, rank) for rank in self.ranks]
        releases = (Arm(METHOD, release, *point) for point in points for release in RELEASES)
        return tuple(dict.fromkeys((*REFERENCES, *releases)))
