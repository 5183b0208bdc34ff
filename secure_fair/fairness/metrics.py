"""Utility and group metrics of predictions, by fairlearn's names and definitions.

A rate whose denominator is empty is NaN, and so is every difference that would need it: fairlearn's own rates give 0
there, which would read as a measurement. With more than two classes a rate is one class against the rest, and a
difference is the largest over the classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from sklearn.metrics import accuracy_score, roc_auc_score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Codes = NDArray[np.int64]
    Flags = NDArray[np.bool_]
    Metric = Callable[..., float]

BINARY = 2


def overall(labels: Codes, scores: NDArray[np.float64]) -> dict[str, float]:
    """accuracy, balanced_accuracy (mean recall over the classes that occur) and auc (one-vs-rest mean beyond two).

    labels [n], scores [n, C] probabilities; the prediction is the class of the largest score.
    """
    predicted = scores.argmax(axis=1)
    present = np.unique(labels)
    recalls = [float((predicted[labels == label] == label).mean()) for label in present]
    ranked = present if scores.shape[1] > BINARY else np.array([1])
    aucs = [roc_auc_score(labels == c, scores[:, c]) for c in ranked] if len(present) > 1 else []
    return {
        "accuracy": float(accuracy_score(labels, predicted)) if len(labels) else math.nan,
        "balanced_accuracy": float(np.mean(recalls)) if recalls else math.nan,
        "auc": float(np.mean(aucs)) if aucs else math.nan,
    }


def evaluate(labels: Codes, scores: NDArray[np.float64], groups: Codes, names: Sequence[str]) -> dict[str, Any]:
    """`overall` and the group metrics of summary.json.

    groups [n] are indices into `names`, the attribute's categories. `by_group` has an entry for every category, also
    for one without records. `positives` counts its records of the positive class, the denominator of its true positive
    rate. Beyond two classes rates and positives of a group are lists, one number per class.
    """
    predicted = scores.argmax(axis=1)
    n_classes = scores.shape[1]
    members = np.array(names, dtype=object)[groups]
    accuracy = _by_group(accuracy_score, labels, predicted, members, names)
    by_group: dict[str, dict[str, Any]] = {
        name: {"count": int((groups == code).sum()), "accuracy": float(accuracy[code])}
        for code, name in enumerate(names)
    }
    for code, name in enumerate(names):
        positives = [int(((labels == c) & (groups == code)).sum()) for c in _targets(n_classes)]
        by_group[name]["positives"] = positives[0] if n_classes == BINARY else positives
    differences = {}
    for metric, rate in _RATES.items():
        by_class = np.array(
            [_by_group(rate, labels == c, predicted == c, members, names) for c in _targets(n_classes)]
        )  # [classes, K]
        differences[metric] = float((by_class.max(axis=1) - by_class.min(axis=1)).max())  # NaN if one of them is
        for column, name in enumerate(names):
            rates = by_class[:, column].tolist()
            by_group[name][metric] = rates[0] if n_classes == BINARY else rates
    tpr, fpr = differences["true_positive_rate"], differences["false_positive_rate"]
    return {
        **overall(labels, scores),
        "worst_group_accuracy": float(accuracy.min()),
        "demographic_parity_difference": differences["selection_rate"],
        "true_positive_rate_difference": tpr,
        "false_positive_rate_difference": fpr,
        "equalized_odds_difference": float(np.max([tpr, fpr])),
        "by_group": by_group,
    }


def _targets(n_classes: int) -> range:
    """The classes whose rates are taken: the positive one of two, each of more."""
    return range(1, BINARY) if n_classes == BINARY else range(n_classes)


def _by_group(
    metric: Metric, actual: Codes | Flags, predicted: Codes | Flags, members: NDArray[np.object_], names: Sequence[str]
) -> NDArray[np.float64]:
    """The metric of each category [K], NaN for one without records."""
    frame = MetricFrame(metrics=metric, y_true=actual, y_pred=predicted, sensitive_features=members)
    values: NDArray[np.float64] = frame.by_group.reindex(names).to_numpy(dtype=np.float64)
    return values


def _defined(rate: Metric, among: bool) -> Metric:
    """`rate` where some record's actual value is `among`, else NaN."""

    def guarded(actual: Flags, predicted: Flags) -> float:
        return float(rate(actual, predicted, pos_label=True)) if (actual == among).any() else math.nan

    return guarded


_RATES: dict[str, Metric] = {
    "selection_rate": selection_rate,
    "true_positive_rate": _defined(true_positive_rate, True),
    "false_positive_rate": _defined(false_positive_rate, False),
}
