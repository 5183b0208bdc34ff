"""Privacy accounting in zero-concentrated differential privacy (zCDP).

Adjacency throughout: one person's whole row of attributes is replaced; ids, images, categories and membership are
public. A Gaussian release at scale sigma * Delta is rho-zCDP with rho = 1 / (2 sigma^2) (Bun and Steinke 2016,
prop. 1.6; discrete Gaussian: Canonne, Kamath and Steinke 2020, thm. 4), and rho adds over adaptive releases. No
amplification by sampling is claimed: the developer knows which records are in a batch.

Amounts are integers of 10^-12, costs rounded up and budgets down, so that sums in the ledger are exact.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction

from secure_fair.errors import RefusedError

UNIT = 10**12
UNBOUNDED = 2**61
FRACTION_BITS = 16
# A record's vector ends with this constant, which counts. Small, since every unit of the vector's norm is paid for in
# noise and a count needs less precision than a direction; a power of two, exact in fixed point.
COUNTER = 0.25
_STEPS = 100


@dataclass(frozen=True)
class Cost:
    """What releases cost one person: zCDP `rho`, and `pure` epsilon (None where not pure DP), both in 10^-12.

    `rho` counts pure releases too, converted, so one number is the account of any mixture.
    """

    rho: int
    pure: int | None

    def __add__(self, other: Cost) -> Cost:
        pure = None if self.pure is None or other.pure is None else self.pure + other.pure
        return Cost(min(self.rho + other.rho, UNBOUNDED), pure)

    @property
    def bounded(self) -> bool:
        return self.rho < UNBOUNDED

    def epsilon(self, delta: float) -> float:
        """The guarantee at `delta`: the better of the zCDP bound and, if all was pure, the sum; inf if unbounded."""
        bound = epsilon_of(self.rho / UNIT, delta) if self.bounded else math.inf
        return bound if self.pure is None else min(bound, self.pure / UNIT)


NOTHING = Cost(0, 0)
UNBOUNDED_COST = Cost(UNBOUNDED, None)


@dataclass(frozen=True)
class Budget:
    """A person's limit over the life of the attributes: (epsilon, delta)-DP for all releases together."""

    epsilon: float
    delta: float

    @property
    def limits(self) -> tuple[int, int]:
        """Largest rho, and largest sum of pure epsilons, in 10^-12. A person must stay below either of them.

        "Either" keeps the guarantee even if the developer chooses adaptively: outcomes under the first limit are
        (epsilon, delta)-bounded, outcomes under the second, which holds pure releases only, are (epsilon, 0)-bounded,
        and the two sets of outcomes are disjoint.
        """
        return _floor(rho_of(self.epsilon, self.delta)), _floor(self.epsilon)


def gaussian_cost(epsilon: float, delta: float, releases: int = 1) -> Cost:
    """Cost of *each* of `releases` Gaussian releases that together are (epsilon, delta)-DP."""
    rho = _floor(rho_of(epsilon, delta)) // releases
    if rho == 0:
        raise RefusedError(f"epsilon {epsilon:g} over {releases} releases is too small to account for; ask for more")
    return Cost(rho, None)


def pure_cost(epsilons: Sequence[float]) -> Cost:
    """Cost of pure epsilon-DP releases, for example one for each attribute.

    epsilon-DP is (epsilon tanh(epsilon/2))-zCDP: randomized response is the worst case (Kairouz, Oh and Viswanath
    2015), and its Renyi divergence over alpha is largest at alpha -> 1, where it is the Kullback-Leibler divergence.
    """
    for epsilon in epsilons:
        _check_epsilon(epsilon)
    rho = sum(_ceil(epsilon * math.tanh(epsilon / 2)) for epsilon in epsilons)
    return Cost(rho, sum(_ceil(epsilon) for epsilon in epsilons))


def split_epsilon(epsilon: float, parts: int) -> float:
    """Each part's share of a pure epsilon, rounded down so that the parts together cost no more than the whole."""
    _check_epsilon(epsilon)
    return _floor(epsilon) // parts / UNIT


def noise_scale(cost: Cost, sensitivity: float) -> float:
    """Scale of the discrete Gaussian whose release costs `cost.rho` at this L2 sensitivity, rounded up."""
    return math.nextafter(sensitivity * math.sqrt(UNIT / (2 * cost.rho)) * (1 + 1e-15), math.inf)


def delta_of(rho: float, epsilon: float) -> float:
    """Smallest delta that this formula gives for rho-zCDP at `epsilon` (Canonne, Kamath and Steinke 2020, cor. 13).

    delta = min over alpha > 1 of exp((alpha-1)(alpha rho - epsilon)) / (alpha-1) * (1 - 1/alpha)^alpha. The logarithm
    is convex in alpha; a bisection of its derivative finds the minimum, and any alpha would be a valid bound.
    """
    if rho == 0:
        return 0.0
    low, high = 1 + 1e-9, (epsilon + 1) / (2 * rho) + 2
    for _ in range(_STEPS):
        alpha = (low + high) / 2
        if (2 * alpha - 1) * rho - epsilon + math.log1p(-1 / alpha) < 0:
            low = alpha
        else:
            high = alpha
    alpha = high
    log = (alpha - 1) * (alpha * rho - epsilon) + alpha * math.log1p(-1 / alpha) - math.log(alpha - 1)
    return math.exp(min(log, 0.0))


@functools.lru_cache(maxsize=4096)
def epsilon_of(rho: float, delta: float) -> float:
    """Smallest epsilon such that rho-zCDP implies (epsilon, delta)-DP."""
    low, high = 0.0, rho + 2 * math.sqrt(rho * math.log(1 / delta))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(rho, middle) <= delta else (middle, high)
    return high


@functools.lru_cache(maxsize=256)
def rho_of(epsilon: float, delta: float) -> float:
    """Largest rho (the smallest noise) such that rho-zCDP implies (epsilon, delta)-DP."""
    _check_epsilon(epsilon)
    if not 0 < delta <= 0.5:
        raise RefusedError(f"delta {delta} must be a number in (0, 0.5]; less than 1 / number of people is usual")
    low, high = 0.0, epsilon  # at rho = epsilon the mean privacy loss alone is epsilon
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle, epsilon) <= delta else (low, middle)
    return low


def norm_limit_squared(blocks: int, clip: float) -> int:
    """Largest squared L2 norm of a record's integer vector: floor((R 2^f)^2), R^2 = (blocks + COUNTER^2) clip^2."""
    return math.floor(_radius_squared(blocks, clip) * (1 << 2 * FRACTION_BITS))


def moment_sensitivity(categories: Sequence[int], blocks: int, clip: float, weight_bits: int = 0) -> int:
    """L2 sensitivity, as an integer, of sum_i u_i (x) t_i in units of 2^-(f + weight_bits).

    categories: K of each attribute, or of each intersection, released together. K = 2 sends one column (the other is
    public, their sum being so), which moves by R; K > 2 sends K columns, of which two move, by sqrt(2) R together.
    A block for each task class ("odds") changes nothing: a record is in one class. Persons with m records have the
    integer weight floor(2^weight_bits / m) on each, so by the triangle inequality they move the sum no further.
    """
    columns = sum(1 if k == 2 else 2 for k in categories)
    return _ceil_sqrt(columns * _radius_squared(blocks, clip) * (1 << 2 * (FRACTION_BITS + weight_bits)))


def _radius_squared(blocks: int, clip: float) -> Fraction:
    if not (math.isfinite(clip) and 0 < clip <= 2**10 and 1 <= blocks <= 2):
        raise RefusedError(f"clip {clip} with {blocks} feature blocks: clip must be in (0, 1024] and blocks 1 or 2")
    return (blocks + Fraction(COUNTER) ** 2) * Fraction(clip) ** 2


def _ceil_sqrt(x: Fraction) -> int:
    return math.isqrt(math.ceil(x) - 1) + 1  # smallest integer whose square is at least x > 0


def _check_epsilon(epsilon: float) -> None:
    if not 0 < epsilon <= 10**5:
        raise RefusedError(f"epsilon {epsilon} must be a number in (0, 100000]")


def _ceil(x: float) -> int:
    # `repr` makes 0.1 mean one tenth, so that forty releases at 0.1 are exactly 4
    return int((Decimal(repr(x)) * UNIT).to_integral_value(ROUND_CEILING))


def _floor(x: float) -> int:
    return int((Decimal(repr(x)) * UNIT).to_integral_value(ROUND_FLOOR))
