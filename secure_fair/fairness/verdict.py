"""Warnings about a finished run: its utility collapsed, its bias rose where it was to fall, or it was hardly tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHANCE = 0.05  # of balanced accuracy above what guessing gives: below it, nothing was learned
LOSS = 0.1  # of balanced accuracy against ERM
RISE = 0.02  # of the equalized-odds difference against ERM
FEW = 10  # records of one group and label to test on: below it a single one moves a rate by more than a tenth


def warnings(metrics: Mapping[str, Any], classes: int, erm: Mapping[str, Any] | None = None) -> list[str]:
    """What to tell a user of a run's test metrics, with `classes` task classes, beside ERM's where there are some."""
    found = []
    utility, bias = metrics["balanced_accuracy"], metrics.get("equalized_odds_difference")
    floor = 1 / classes + CHANCE
    if utility is not None and utility < floor:
        found.append(
            f"balanced accuracy {utility:.3f} is hardly above guessing ({1 / classes:.3f}): the model learned nothing "
            "of the task; lower fairness.weight or training.learning_rate, or train longer"
        )
    elif (
        erm is not None
        and None not in (utility, erm["balanced_accuracy"])
        and utility < erm["balanced_accuracy"] - LOSS
    ):
        found.append(
            f"balanced accuracy fell from ERM's {erm['balanced_accuracy']:.3f} to {utility:.3f}; lower fairness.weight"
        )
    before = None if erm is None else erm.get("equalized_odds_difference")
    if bias is not None and before is not None and bias > before + RISE:
        found.append(
            f"the equalized-odds difference rose from ERM's {before:.3f} to {bias:.3f}; try another fairness.weight "
            "or method, and more than one seed: with small groups the difference is noisy"
        )
    return found


def of_summary(row: Mapping[str, Any], erm: Mapping[str, Any] | None = None) -> list[str]:
    """The same from summary.json; one of an older program does not name its classes, and counts as binary."""
    return warnings(row["metrics"], len(row.get("classes", ("no", "yes"))), erm)


def few_records(counts: Mapping[str, int]) -> list[str]:
    """counts: records to test on by group and label. For whoever holds labels and attributes; for no party of a run."""
    found = "; ".join(f"{name} ({count})" for name, count in counts.items() if count < FEW)
    text = (
        f"fewer than {FEW} records to test on of {found}: their rates, and all differences that need those, are mostly "
        "chance; take more records"
    )
    return [text] if found else []


def cells(row: Mapping[str, Any]) -> dict[str, int]:
    """The cells of summary.json; none where there are no groups, or an older program has not counted."""
    columns = row["config"]["attributes"]["columns"]
    by_attribute = row.get("metrics_by_attribute") or dict.fromkeys(columns, row["metrics"])
    counts: dict[str, int] = {}
    for column, found in by_attribute.items():
        for group, block in found.get("by_group", {}).items():
            positives = block.get("positives", [])
            each = positives if isinstance(positives, list) else [block["count"] - positives, positives]
            for label, count in zip(row.get("classes", ()), each, strict=False):
                counts[f"{column}={group}, label {label}"] = count
    return counts
