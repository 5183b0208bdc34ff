"""fairlearn's group metrics from counts alone: rates by group, minima and maxima, differences and ratios.

Names and definitions are fairlearn's (`MetricFrame`, methods "between_groups" and "to_overall"). A rate whose
denominator is empty is NaN, where fairlearn's own functions give 0, and takes no part in a minimum, maximum, difference
or ratio, as a NaN does in a `MetricFrame`; a metric that no group has is NaN.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# numerator and denominator as weights of (tp, fp, fn, tn): proportions, for which there are intervals
PROPORTIONS = {
    "selection_rate": ((1, 1, 0, 0), (1, 1, 1, 1)),
    "true_positive_rate": ((1, 0, 0, 0), (1, 0, 1, 0)),
    "true_negative_rate": ((0, 0, 0, 1), (0, 1, 0, 1)),
    "false_positive_rate": ((0, 1, 0, 0), (0, 1, 0, 1)),
    "false_negative_rate": ((0, 0, 1, 0), (1, 0, 1, 0)),
    "accuracy_score": ((1, 0, 0, 1), (1, 1, 1, 1)),
    "zero_one_loss": ((0, 1, 1, 0), (1, 1, 1, 1)),
    "precision_score": ((1, 0, 0, 0), (1, 1, 0, 0)),
    "recall_score": ((1, 0, 0, 0), (1, 0, 1, 0)),
}
F1 = ((2, 0, 0, 0), (2, 1, 1, 0))
RATES = (*PROPORTIONS, "f1_score", "balanced_accuracy_score")
# fairlearn's parity metrics: the difference or ratio of one rate, or the worst of several
PARITY = {
    "demographic_parity": ("selection_rate",),
    "equal_opportunity": ("true_positive_rate",),
    "equalized_odds": ("true_positive_rate", "false_positive_rate"),
}
AGGREGATES = ("group_min", "group_max", "difference", "difference_to_overall", "ratio", "ratio_to_overall")


def rates(confusion: Array) -> dict[str, Array]:
    """Every rate of RATES [...] from (tp, fp, fn, tn) [4, ...]; NaN without a denominator."""
    found = {name: proportion(confusion, name) for name in PROPORTIONS}
    found["f1_score"] = _quotient(confusion, *F1)
    found["balanced_accuracy_score"] = (found["true_positive_rate"] + found["true_negative_rate"]) / 2
    return found


def proportion(confusion: Array, name: str) -> Array:
    """One of PROPORTIONS."""
    return _quotient(confusion, *PROPORTIONS[name])


def aggregates(by_group: Array, overall: float) -> dict[str, float]:
    """AGGREGATES of one rate, by group [K] and over all records."""
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # "All-NaN slice": the answer is NaN
        low, high = np.nanmin(by_group), np.nanmax(by_group)
        to_overall = by_group / overall
        return {
            "group_min": float(low),
            "group_max": float(high),
            "difference": float(high - low),
            "difference_to_overall": float(np.nanmax(np.abs(by_group - overall))),
            "ratio": float(low / high),
            "ratio_to_overall": float(np.nanmin(np.where(to_overall > 1, 1 / to_overall, to_overall))),
        }


def group_metrics(by_group: dict[str, Array], overall: dict[str, Array]) -> dict[str, float]:
    """fairlearn's names -> values: RATE_AGGREGATE for each rate, and the parity metrics."""
    found: dict[str, float] = {}
    for rate, values in by_group.items():
        for aggregate, value in aggregates(values, float(overall[rate])).items():
            found[f"{rate}_{aggregate}"] = value
    for parity, members in PARITY.items():
        for aggregate in AGGREGATES[2:]:
            worst = np.max if "difference" in aggregate else np.min  # NaN if one of them is
            found[f"{parity}_{aggregate}"] = float(worst([found[f"{rate}_{aggregate}"] for rate in members]))
    return found


def weighted(weights: tuple[int, ...], confusion: Array) -> Array:
    """Weighted sum of (tp, fp, fn, tn) [4, ...]; what has no weight may be NaN."""
    out: Array = np.sum([w * cell for w, cell in zip(weights, confusion, strict=True) if w], axis=0)
    return out


def _quotient(confusion: Array, numerator: tuple[int, ...], denominator: tuple[int, ...]) -> Array:
    above, below = weighted(numerator, confusion), weighted(denominator, confusion)
    out: Array = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
    return out
