"""Regression outputs: sums by group in fixed point, and the means and errors that follow from them.

Label and prediction are numbers in a range that both parties know, [low, high] -> [0, 2^bits]; with more records fewer
bits, so that a sum stays below 2^31. A mean is off by half a step of 2^-bits of the range at most, a mean squared error
by two steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secure_fair.audit import metrics
from secure_fair.audit.columns import Table, numbers, sorted_ids
from secure_fair.audit.layout import MAX_BITS, MIN_BITS, REGRESSION, Layout
from secure_fair.audit.predictions import ID, LABEL, PREDICTION, Predictions
from secure_fair.audit.result import Opened
from secure_fair.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

NORMAL_95 = 1.96
RING_BITS = 30  # sums of labels and of the noise stay below 2^31
MEANS = ("mean_label", "mean_prediction", "mean_absolute_error", "mean_squared_error")


def read_regression(table: Table, low: float, high: float) -> Predictions:
    """Columns id, label, prediction. Raises DataError naming file, row, value and mend."""
    ids: list[pa.Array] = []
    values: dict[str, list[NDArray[np.float64]]] = {LABEL: [], PREDICTION: []}
    for start, block in table.blocks([ID, LABEL, PREDICTION]):
        ids.append(block[0])
        for name, column in zip((LABEL, PREDICTION), block[1:], strict=True):
            found = numbers(table, start, column, name)
            outside = np.flatnonzero((found < low) | (found > high))
            if outside.size:
                row = int(outside[0])
                what = f"{name} {found[row]:g} is outside the range {low:g} to {high:g}"
                raise table.refuse(start + row, what, "widen the range, or mend the row")
            values[name].append((found - low) / (high - low))
    sorted_, order = sorted_ids(table, ids)
    bits = min(MAX_BITS, RING_BITS - len(sorted_).bit_length())
    if bits < MIN_BITS:
        raise DataError(f"{table.file}: {len(sorted_)} records are too many for a regression; audit a sample")
    label, prediction = (
        np.rint(np.concatenate(parts)[order] * (1 << bits)).astype(np.uint32) for parts in values.values()
    )
    return Predictions(sorted_, (), Layout(0, 0, bits), label, prediction)


def regression_result(opened: Opened, layout: Layout, names: Sequence[str], low: float, high: float) -> dict[str, Any]:
    """metrics, by_group, overall, counts and noise of one attribute; no intervals, which would need sums of squares.

    noise: how far, with 95 % confidence, the audit's own noise has moved a mean of a group.
    """
    visible = np.where(opened.shown, opened.counts, np.nan)
    means, overall = (_means(counts / layout.largest, low, high) for counts in (visible, opened.totals))
    size = np.maximum(visible[:, 0], 1.0)
    blur = [NORMAL_95 * opened.scale * np.sqrt(1 + (visible[:, c] / size) ** 2) / size for c in range(1, 5)]  # [4][K]
    widths = (high - low, high - low, high - low, (high - low) ** 2)
    found: dict[str, float] = {}
    for name in MEANS:
        for aggregate, value in metrics.aggregates(means[name], float(overall[name])).items():
            found[f"{name}_{aggregate}"] = value
    return {
        "metrics": found,
        "by_group": {name: {mean: float(values[k]) for mean, values in means.items()} for k, name in enumerate(names)},
        "overall": {mean: float(value) for mean, value in overall.items()},
        "counts": {name: {"size": float(means["count"][k])} for k, name in enumerate(names)},
        "intervals": {},
        "noise": {
            name: {mean: float(w * b[k]) for mean, w, b in zip(MEANS, widths, blur, strict=True)}
            for k, name in enumerate(names)
        },
    }


def _means(counts: NDArray[np.float64], low: float, high: float) -> dict[str, NDArray[np.float64]]:
    """From sums [..., P] of records and of numbers in [0, 1]."""
    size = np.maximum(counts[..., 0], 0.0)
    label, prediction, absolute, squared = (
        np.divide(counts[..., column], size, out=np.full(np.shape(size), np.nan), where=size > 0)
        for column in range(1, len(REGRESSION))
    )
    width = high - low
    return {
        "count": counts[..., 0],
        "mean_label": low + width * label,
        "mean_prediction": low + width * prediction,
        "mean_absolute_error": width * absolute,
        "mean_squared_error": width**2 * squared,
    }
