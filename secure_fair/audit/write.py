"""audit.json: what an audit found, what it cost, and what it gave away."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import secure_fair
from secure_fair.audit.predictions import Predictions, edges
from secure_fair.audit.regression import regression_result
from secure_fair.audit.result import Opened, attribute_result, score_result
from secure_fair.fairness.finite import finite
from secure_fair.settings import Settings

VERSION = 1
PARTS = ("metrics", "by_group", "overall", "counts", "intervals")


def audit_json(
    settings: Settings,
    predictions: Predictions,
    opened: Opened,
    tables: Sequence[tuple[str, ...]],
    privacy: Mapping[str, Any],
    cost: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """The whole report, in JSON's own types (NaN is None). tables: each attribute with its groups' names."""
    report = _results(settings, predictions, opened, tables)
    if predictions.layout.bins:
        threshold = 0.5 if settings.audit.threshold is None else settings.audit.threshold
        of_bins = edges(threshold, predictions.layout.bins)
        report["scores"] = {
            column: score_result(opened.part(rows), predictions.layout, names, of_bins)
            for rows, column, names in _rows(tables)
        }
    columns = [column for column, *_ in tables]
    report |= {
        "task": {
            "classes": predictions.classes,
            "threshold": settings.audit.threshold,
            "range": settings.audit.range,
            "attributes": columns,
        },
        "cost": {**cost, "total_seconds": seconds},
        "privacy": privacy,
        "versions": {"secure_fair": secure_fair.__version__},
    }
    result: dict[str, Any] = finite({"version": VERSION, **report})
    return result


def shared_json(
    settings: Settings,
    predictions: Predictions,
    opened: Opened,
    visible: np.ndarray,
    tables: Sequence[tuple[str, ...]],
    report: Mapping[str, Any],
) -> bytes:
    """The part of a report that the developer's policy lets the auditor see: the counts that are `visible`."""
    report = {**report, **_results(settings, predictions, dataclasses.replace(opened, shown=visible), tables)}
    report.pop("scores", None)
    return json.dumps(finite(report), allow_nan=False).encode()


def _results(
    settings: Settings, predictions: Predictions, opened: Opened, tables: Sequence[tuple[str, ...]]
) -> dict[str, Any]:
    """PARTS, each by attribute."""
    found: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for rows, column, names in _rows(tables):
        of_attribute, layout = opened.part(rows), predictions.layout
        if settings.audit.range is not None:
            result = regression_result(of_attribute, layout, names, *settings.audit.range)
        else:
            result = attribute_result(of_attribute, layout, predictions.classes, names)
        for part, value in result.items():
            found.setdefault(part, {})[column] = value
    return found


def _rows(tables: Sequence[tuple[str, ...]]) -> list[tuple[slice, str, tuple[str, ...]]]:
    """The rows of the counts that belong to each attribute, its name and its groups' names."""
    out, start = [], 0
    for column, *names in tables:
        out.append((slice(start, start + len(names)), column, tuple(names)))
        start += len(names)
    return out
