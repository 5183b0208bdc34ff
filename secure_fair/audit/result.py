"""From the counts that were opened to what is reported: metrics, rates by group, intervals, calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_fair.audit import intervals, metrics
from secure_fair.audit.intervals import LEVEL, Sample
from secure_fair.audit.layout import BINARY, Layout

Array = NDArray[np.float64]
ACCURACY = ("accuracy_score", "zero_one_loss")  # of three or more classes: without a class


@dataclass(frozen=True)
class Opened:
    """What an audit has opened to the developer, of one attribute or of all of them.

    counts, shown: [groups, P]; totals [P]: over all records, the developer's own; scale: of the noise in each count.
    """

    counts: Array
    shown: NDArray[np.bool_]
    totals: Array
    scale: float

    def part(self, rows: slice) -> Opened:
        return Opened(self.counts[rows], self.shown[rows], self.totals, self.scale)

    def confusion(self, matrix: Array) -> tuple[Array, Array, Array]:
        """(tp, fp, fn, tn) by group [4, K], NaN where a hidden count takes part; over all [4]; the noise's covariance.

        matrix: [P, 4].
        """
        hidden = (~self.shown).astype(np.float64) @ np.abs(matrix) > 0
        by_group = np.where(hidden, np.nan, np.maximum(self.counts @ matrix, 0.0)).T
        return by_group, self.totals @ matrix, self.scale**2 * matrix.T @ matrix


@dataclass(frozen=True)
class _View:
    """A class against the rest, or accuracy alone: rates and samples of one attribute."""

    by_group: dict[str, Array]
    overall: dict[str, Array]
    samples: dict[str, Sample]

    @staticmethod
    def of(opened: Opened, matrix: Array) -> _View:
        by_group, overall, noise = opened.confusion(matrix)
        samples = {rate: Sample.of(by_group, overall, rate, noise) for rate in metrics.PROPORTIONS}
        return _View(metrics.rates(by_group), metrics.rates(overall), samples)


def attribute_result(opened: Opened, layout: Layout, classes: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """metrics, by_group, overall, counts, intervals of one attribute; with more than two classes also by_class.

    Beyond two classes a rate is one class against the rest; a difference is the largest over the classes, a ratio the
    smallest, and a rate of a group is a mapping from class to number.
    """
    counts = {
        name: {cell: float(value) if ok else None for cell, value, ok in zip(layout.names, row, known, strict=True)}
        for name, row, known in zip(names, opened.counts, opened.shown, strict=True)
    }
    sizes = np.where(opened.shown.all(axis=1), layout.size(opened.counts), np.nan)
    if layout.classes == BINARY:
        view = _View.of(opened, layout.confusion_matrix())
        found = _of_view(view, names, LEVEL)
    else:
        found = _of_classes(opened, layout, classes, names)
    for name, size in zip(names, sizes, strict=True):
        found["by_group"][name] = {"count": float(size), **found["by_group"][name]}
    return {**found, "counts": counts}


def _of_view(view: _View, names: Sequence[str], level: float) -> dict[str, Any]:
    each = {rate: sample.points(1 - level) for rate, sample in view.samples.items()}
    return {
        "metrics": metrics.group_metrics(view.by_group, view.overall),
        "by_group": {
            name: {rate: float(values[k]) for rate, values in view.by_group.items()} for k, name in enumerate(names)
        },
        "overall": {rate: float(value) for rate, value in view.overall.items()},
        "intervals": {
            **intervals.intervals(view.samples, level),
            "by_group": {name: {rate: points[k][1] for rate, points in each.items()} for k, name in enumerate(names)},
        },
    }


def _of_classes(opened: Opened, layout: Layout, classes: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    level = 1 - (1 - LEVEL) / len(classes)  # the worst class's interval has to hold for all
    views = [_View.of(opened, layout.confusion_matrix(c)) for c in range(len(classes))]
    by_class = {name: _of_view(view, names, level) for name, view in zip(classes, views, strict=True)}
    plain = _View.of(opened, layout.accuracy_matrix())
    accuracy = _of_view(plain, names, LEVEL)
    found: dict[str, Any] = {"metrics": {}, "intervals": {"by_group": {}}}
    for name in next(iter(by_class.values()))["metrics"]:
        of = min if "ratio" in name or name.endswith("group_min") else max
        if name.startswith(ACCURACY):
            found["metrics"][name] = accuracy["metrics"][name]
            found["intervals"] |= {name: value} if (value := accuracy["intervals"].get(name)) else {}
        elif not name.startswith("balanced"):
            found["metrics"][name] = _worst([part["metrics"][name] for part in by_class.values()], of)
            ends = [part["intervals"][name] for part in by_class.values() if name in part["intervals"]]
            if ends:
                found["intervals"][name] = tuple(_worst(list(side), of) for side in zip(*ends, strict=True))
    recall = np.mean([view.by_group["recall_score"] for view in views], axis=0)
    total = np.mean([view.overall["recall_score"] for view in views])
    for aggregate, value in metrics.aggregates(recall, float(total)).items():
        found["metrics"][f"balanced_accuracy_score_{aggregate}"] = value
    rates = [rate for rate in metrics.RATES if rate not in (*ACCURACY, "balanced_accuracy_score")]

    def row(of: dict[str, Any], per_class: list[dict[str, Any]], balanced: float) -> dict[str, Any]:
        split = {rate: dict(zip(classes, (part[rate] for part in per_class), strict=True)) for rate in rates}
        return {**{rate: of[rate] for rate in ACCURACY}, "balanced_accuracy_score": balanced, **split}

    parts = by_class.values()
    found["by_group"] = {
        name: row(accuracy["by_group"][name], [part["by_group"][name] for part in parts], float(recall[k]))
        for k, name in enumerate(names)
    }
    found["overall"] = row(accuracy["overall"], [part["overall"] for part in parts], float(total))
    ends = [part["intervals"]["by_group"] for part in parts]
    of_accuracy = accuracy["intervals"]["by_group"]
    found["intervals"]["by_group"] = {
        name: {rate: of_accuracy[name][rate] for rate in ACCURACY}
        | {
            rate: dict(zip(classes, (end[name][rate] for end in ends), strict=True))
            for rate in ends[0][name]
            if rate not in ACCURACY
        }
        for name in names
    }
    return {**found, "by_class": {name: part["metrics"] for name, part in by_class.items()}}


def _worst(values: list[float], of: Any) -> float:
    """NaN if one of them is: then nobody knows which is the worst."""
    return math.nan if any(map(math.isnan, values)) else float(of(values))


def score_result(opened: Opened, layout: Layout, names: Sequence[str], edges: Array) -> dict[str, Any]:
    """Calibration by group, and how far the groups' score distributions are apart, from counts by label and bin.

    by_group: of each bin the share of records in it, and the share of label 1 among them (NaN where the bin is empty or
    hidden); calibration_error: mean gap between that share and the bin's middle, weighted by records.
    score_distribution_difference: the largest Kolmogorov-Smirnov distance of two groups, at the edges of the bins.
    """
    bins = layout.bins
    counts = np.where(opened.shown, np.maximum(opened.counts, 0.0), np.nan).reshape(-1, 2, bins)  # [K, label, bin]
    of_bin = counts.sum(axis=1)  # [K, bins]
    size = of_bin.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        share, positive = of_bin / size, counts[:, 1] / of_bin
    middle = (edges[:-1] + edges[1:]) / 2
    gap = np.where(of_bin > 0, np.abs(positive - middle), 0.0)
    error = np.where(np.isnan(size[:, 0]), np.nan, (gap * share).sum(axis=1))
    cdf = share.cumsum(axis=1)
    known = np.flatnonzero(~np.isnan(cdf).any(axis=1))
    apart = [float(np.abs(cdf[i] - cdf[j]).max()) for n, i in enumerate(known) for j in known[n + 1 :]]
    return {
        "edges": edges.tolist(),
        "by_group": {
            name: {
                "share_of_records": share[k].tolist(),
                "share_of_positives": positive[k].tolist(),
                "calibration_error": float(error[k]),
            }
            for k, name in enumerate(names)
        },
        "score_distribution_difference": max(apart, default=math.nan),
        "calibration_error_difference": float(np.ptp(error[known])) if len(known) > 1 else math.nan,
    }
