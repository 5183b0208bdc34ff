"""Confidence intervals for rates, and for differences and ratios between groups.

| quantity | method |
|---|---|
| a rate of a group | Wilson's score interval |
| a difference of two groups' rates | Newcombe's hybrid of two Wilson intervals (1998, method 10) |
| a ratio of two groups' rates | MOVER-R with two Wilson intervals (Donner and Zou 2012; Fagerland and Newcombe 2013) |
| largest difference, smallest ratio | all pairs at level 1 - alpha / pairs (Bonferroni); the extreme of the bounds |
| to overall | a group against the rest, which is independent of it, scaled by the rest's share |
| the worst of several rates (equalized odds) | their intervals at alpha / rates; the extreme of the bounds |

Records are taken as independent draws, each group's denominators as given. The noise of a noised audit widens every
interval: n becomes an effective size, n / (1 + V / (n p (1 - p))), V the variance of the noise in
(numerator - p denominator). An interval of several pairs covers at least its nominal level, more so with more groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_fair.audit.metrics import PARITY, PROPORTIONS, weighted
from secure_fair.fairness.intervals import wilson

Array = NDArray[np.float64]
Interval = tuple[float, float]
UNKNOWN = (float("nan"), float("nan"))
LEVEL = 0.95


@dataclass(frozen=True)
class Sample:
    """One proportion in groups [K], hits of n trials each, and over all records.

    noise [K]: variance of what a noised audit has added to (hits - p n). A group that is not shown has NaN in n.
    """

    hits: Array
    n: Array
    noise: Array
    overall: tuple[float, float]

    @staticmethod
    def of(confusion: Array, overall: Array, rate: str, noise: Array) -> Sample:
        """confusion, overall: (tp, fp, fn, tn) [4, K] and [4]; noise: covariance [4, 4] of a group's noise in them."""
        above, below = PROPORTIONS[rate]
        n = np.maximum(weighted(below, confusion), 0.0)
        hits = np.clip(weighted(above, confusion), 0.0, n)
        p = np.divide(hits, n, out=np.full_like(n, 0.5), where=n > 0)
        weights = np.asarray(above, dtype=np.float64)[:, None] - p * np.asarray(below)[:, None]  # [4, K]
        variance = np.einsum("ck,cd,dk->k", weights, noise, weights)
        return Sample(hits, n, variance, (float(np.dot(above, overall)), float(np.dot(below, overall))))

    def known(self) -> Sample:
        """The groups that have the rate."""
        at = self.n > 0
        return Sample(self.hits[at], self.n[at], self.noise[at], self.overall)

    def rest(self) -> tuple[Sample, Sample]:
        """The groups, and what is left of all records without each.

        Noise moves a group and its rest against each other, by the same count: all of it is laid to the group.
        """
        hits, n = self.overall
        others = np.maximum(n - self.n, 0.0)
        rest = Sample(np.clip(hits - self.hits, 0.0, others), others, np.zeros_like(self.n), self.overall)
        factor = 1 + np.divide(self.n, rest.n, out=np.zeros_like(self.n), where=rest.n > 0)
        return Sample(self.hits, self.n, self.noise * factor**2, self.overall), rest

    def points(self, alpha: float) -> list[tuple[float, Interval]]:
        """Each group's proportion with its Wilson interval."""
        p = np.divide(self.hits, self.n, out=np.full_like(self.n, np.nan), where=self.n > 0)
        smooth = (self.hits + 1) / (self.n + 2)
        blur = 1 + self.noise / (np.maximum(self.n, 1) * smooth * (1 - smooth))
        low, high = wilson(p, self.n / blur, alpha)
        return [(float(p), (float(a), float(b))) for p, a, b in zip(p, low, high, strict=True)]


def newcombe(first: tuple[float, Interval], second: tuple[float, Interval]) -> Interval:
    """Interval of p1 - p2 from each proportion with its own interval."""
    (p, (low, high)), (q, (below, above)) = first, second
    return (
        p - q - float(np.hypot(p - low, above - q)),
        p - q + float(np.hypot(high - p, q - below)),
    )


def mover_ratio(first: tuple[float, Interval], second: tuple[float, Interval]) -> Interval:
    """Interval of p1 / p2 from each proportion with its own interval; the upper end is infinite if p2 may be 0."""
    (p, (low, high)), (q, (below, above)) = first, second
    start = low * (2 * p - low)
    if start > 0:
        start /= p * q + np.sqrt(max((p * q) ** 2 - start * above * (2 * q - above), 0.0))
    end = below * (2 * q - below)
    if not end > 0:
        return float(start), np.inf
    return float(start), float((p * q + np.sqrt(max((p * q) ** 2 - end * high * (2 * p - high), 0.0))) / end)


def intervals(samples: dict[str, Sample], level: float = LEVEL) -> dict[str, Interval]:
    """fairlearn's names -> interval, of differences and ratios of every rate, and of the parity metrics."""
    found: dict[str, Interval] = {}
    for rate, sample in samples.items():
        found |= {f"{rate}_{name}": value for name, value in spread(sample, 1 - level).items()}
    for parity, members in PARITY.items():
        parts = [spread(samples[rate], (1 - level) / len(members)) for rate in members]
        for name in parts[0]:
            ends = [part[name] for part in parts]
            found[f"{parity}_{name}"] = _extreme(ends, max if "difference" in name else min)
    return found


def spread(sample: Sample, alpha: float) -> dict[str, Interval]:
    """Intervals of difference, ratio, and both to overall, over the groups that have the rate."""
    groups = sample.known()
    if len(groups.n) < 2:
        return dict.fromkeys(("difference", "ratio", "difference_to_overall", "ratio_to_overall"), UNKNOWN)
    pairs = list(itertools.combinations(range(len(groups.n)), 2))
    one = groups.points(alpha / len(pairs))
    gaps = [_absolute(newcombe(one[i], one[j])) for i, j in pairs]
    quotients = [mover_ratio(one[i], one[j]) for pair in pairs for i, j in (pair, pair[::-1])]
    away, folds = [], []
    ours, rest = groups.rest()
    each = zip(groups.n / sample.overall[1], ours.points(alpha / len(one)), rest.points(alpha / len(one)), strict=True)
    for share, group, other in each:
        # p_k - p = (1 - w) (p_k - p_rest), and p_k / p = 1 / (w + (1 - w) p_rest / p_k), w the group's share.
        away.append(_absolute((1 - share) * end for end in newcombe(group, other)))
        folds.append(_folded(1 / (share + (1 - share) * end) for end in reversed(mover_ratio(other, group))))
    low, high = _extreme(quotients, min)
    return {
        "difference": _extreme(gaps, max),
        "ratio": (low, min(high, 1.0)),
        "difference_to_overall": _extreme(away, max),
        "ratio_to_overall": _extreme(folds, min),
    }


def _absolute(ends: Iterable[float]) -> Interval:
    """Of |x|, for x in the interval."""
    low, high = ends
    return float(max(low, -high, 0.0)), float(max(-low, high))


def _folded(ends: Iterable[float]) -> Interval:
    """Of min(x, 1 / x), for x >= 0 in the interval."""
    low, high = ends
    if high <= 1:
        return float(low), float(high)
    return float(min(low, 1 / high)), 1.0 if low <= 1 else float(1 / low)


def _extreme(ends: Sequence[Interval], of: Callable[[Iterable[float]], float]) -> Interval:
    if any(np.isnan(value) for end in ends for value in end):
        return UNKNOWN
    return of(low for low, _ in ends), of(high for _, high in ends)
