"""How much an attack got right, and how much of that it owes to people being in the data.

Being right about somebody is no violation of privacy in itself: a good predictor is right about people outside the data
too. What the data's members lose is recovery inside minus recovery outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import roc_auc_score

from secure_fair.fairness.intervals import wilson

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_ALPHA = 0.05


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies with its 95 % interval."""

    difference: float
    low: float
    high: float


def names_of_groups(found: Integers, truth: Integers, groups: int) -> Integers:
    """The name of each recovered group [groups]: the permutation of names that agrees most often with `truth`.

    found, truth [n]: 0..groups-1, found -1 where unknown.
    """
    known = found >= 0
    table = np.zeros((groups, groups))
    np.add.at(table, (found[known], truth[known]), 1)
    names: Integers = linear_sum_assignment(table, maximize=True)[1]
    return names


def auc(truth: Integers, scores: Floats) -> float:
    """Mean over categories of the AUC of category against the rest, from scores [n, K]; NaN where none is defined."""
    categories = range(scores.shape[1]) if scores.shape[1] > 2 else (1,)
    return mean([_binary_auc(truth == k, scores[:, k]) for k in categories])


def oriented_auc(truth: Integers, scores: Floats, categories: int) -> float:
    """As `auc`, for scores [n, S] that are not about a category: the best column, turned the right way, for each."""
    each = range(categories) if categories > 2 else (1,)
    best = [[abs(_binary_auc(truth == k, column) - 0.5) for column in scores.T] for k in each]
    return 0.5 + mean([max(row) for row in best])


def inside_minus_outside(inside: Flags, strata_in: Integers, outside: Flags, strata_out: Integers) -> Difference:
    """Accuracy inside minus accuracy outside, of people of the same kinds.

    inside [n], outside [m]: whether the attack was right; strata: the kind (task class and attribute) of each. Outside
    is weighted to the mixture of kinds inside, since a split may be balanced where the training data is biased; kinds
    that one side lacks are left out. Interval: Newcombe's (1998, method 10) from Wilson's for each stratum, as weighted
    by Zou and Donner (2008, MOVER).
    """
    kinds, counts = np.unique(strata_in[np.isin(strata_in, strata_out)], return_counts=True)
    if not len(kinds):
        return Difference(np.nan, np.nan, np.nan)
    weights = counts / counts.sum()
    first = np.array([_rate(inside[strata_in == kind]) for kind in kinds])  # [kinds, (rate, low, high)]
    second = np.array([_rate(outside[strata_out == kind]) for kind in kinds])
    difference = float(weights @ (first[:, 0] - second[:, 0]))
    below = (first[:, 0] - first[:, 1]) ** 2 + (second[:, 2] - second[:, 0]) ** 2
    above = (first[:, 2] - first[:, 0]) ** 2 + (second[:, 0] - second[:, 1]) ** 2
    return Difference(
        difference, difference - float(np.sqrt(weights**2 @ below)), difference + float(np.sqrt(weights**2 @ above))
    )


def _rate(right: Flags) -> tuple[float, float, float]:
    """Rate and Wilson's interval for it."""
    rate = float(right.mean())
    low, high = wilson(rate, len(right), _ALPHA)
    return rate, float(low), float(high)


def _binary_auc(truth: Flags, score: Floats) -> float:
    return float(roc_auc_score(truth, score)) if truth.any() and not truth.all() else np.nan


def mean(values: list[float]) -> float:
    """Mean of those that are numbers; NaN of none."""
    finite = [value for value in values if not np.isnan(value)]
    return float(np.mean(finite)) if finite else np.nan
