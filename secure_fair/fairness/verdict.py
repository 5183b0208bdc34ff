"""Warnings about a finished run: its utility collapsed, or its bias rose where it was to fall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHANCE = 0.05  # of balanced accuracy above what guessing gives: below it, nothing was learned
LOSS = 0.1  # of balanced accuracy against ERM
RISE = 0.02  # of the equalized-odds difference against ERM


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
