"""Intervals of the report: over seeds (Student's t), of a rate (Wilson), and the Pareto front."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from secure_fair.fairness.intervals import wilson

CONFIDENCE = 0.95
LEAST = 3  # values with an interval: Student's factor is 12.7 for two, 4.3 for three


@dataclass(frozen=True)
class Estimate:
    """A mean of `n` values with its 95 % interval; `low` and `high` are None for fewer than LEAST values."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half the interval's width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def as_dict(self) -> dict[str, float | None]:
        return asdict(self)


def over_seeds(values: Iterable[float | None]) -> Estimate | None:
    """Mean and, from LEAST values on, Student's t interval of one value a seed; None where no value is a number.

    The interval assumes that the seeds' values are independent and about normal.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    mean = statistics.fmean(known)
    if len(known) < LEAST:
        return Estimate(mean, None, None, len(known))
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, len(known) - 1)) * statistics.stdev(known) / math.sqrt(len(known))
    return Estimate(mean, mean - half, mean + half, len(known))


def ratio_over_seeds(values: Iterable[float]) -> Estimate | None:
    """The same for positive ratios: t on their logarithms, so `mean` is the geometric one."""
    found = over_seeds(math.log(value) for value in values if value > 0)
    if found is None:
        return None
    low, high = (None if bound is None else math.exp(bound) for bound in (found.low, found.high))
    return Estimate(math.exp(found.mean), low, high, found.n)


def of_rate(rate: float | None, n: float | None) -> Estimate | None:
    """A rate of `n` independent records with Wilson's interval; None without a rate, no interval without a count."""
    if rate is None or not math.isfinite(rate):
        return None
    if n is None or n < 1:
        return Estimate(rate, None, None, 1)
    low, high = wilson(rate, n, 1 - CONFIDENCE)
    return Estimate(rate, float(low), float(high), 1)


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (utility, bias) points that no other one beats or equals in both and beats in one, by utility."""
    front = [
        index
        for index, (utility, bias) in enumerate(points)
        if not any(u >= utility and b <= bias and (u > utility or b < bias) for u, b in points)
    ]
    return sorted(front, key=lambda index: points[index])


def epsilon_text(epsilon: float) -> str:
    """For reading: three digits, and all of a large one."""
    return f"{epsilon:.3g}" if epsilon < 999.5 else f"{epsilon:,.0f}"
