"""Sections on groups: each rate of each group, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from secure_fair.report.arms import Arm, Row
from secure_fair.report.charts.bars import Bar, bars
from secure_fair.report.charts.common import Key
from secure_fair.report.figures import Cells, Figure, Section, Table, interval, keys, mean_of
from secure_fair.report.material import Material
from secure_fair.report.statistics import Estimate, of_rate, over_seeds

# metric of a group -> (what it is called, the field that counts its denominator's records)
RATES = {
    "true_positive_rate": ("True positive rate", "positives"),
    "false_positive_rate": ("False positive rate", "negatives"),
    "selection_rate": ("Selection rate", "count"),
    "accuracy": ("Accuracy", "count"),
}


def sections(material: Material) -> list[Section]:
    """Rates by group, a section an attribute."""
    found = []
    for place, attribute in enumerate(material.attributes):
        blocks = [(arm, [_by_group(row, attribute, first=place == 0) for row in arm.rows]) for arm in material.arms]
        present = [(arm, own) for arm, own in blocks if own[0]]
        if present:
            found.append(_groups(attribute, place, present, keys(material.arms)))
    return found


def _by_group(row: Row, attribute: str, *, first: bool) -> Mapping[str, Any]:
    several = row.get("metrics_by_attribute", {}).get(attribute)
    block = several if several is not None else row["metrics"] if first else {}
    found: Mapping[str, Any] = block.get("by_group", {})
    return found


def _groups(
    attribute: str, place: int, blocks: Sequence[tuple[Arm, list[Mapping[str, Any]]]], named: Mapping[str, Key]
) -> Section:
    names = list(blocks[0][1][0])
    figures, tables = [], []
    for metric, (title, counted) in RATES.items():
        if any(isinstance(run.get(name, {}).get(metric), list) for _, own in blocks for run in own for name in names):
            cells: list[Cells] = [[named[arm.name], *(_by_class(own, n, metric) for n in names)] for arm, own in blocks]
            tables.append(Table(f"{title} by {attribute}, class by class", ("arm", *names), cells))
            continue
        found = {arm.name: [group_rate(own, name, metric, counted) for name in names] for arm, own in blocks}
        drawn = [
            (named[arm], [Bar(n, v, mean_of(v, ".2f")) for n, v in zip(names, values, strict=True)])
            for arm, values in found.items()
        ]
        rows: list[Cells] = [
            [named[arm], *(interval(v, range_of=True) for v in values)] for arm, values in found.items()
        ]
        figures.append(
            Figure(
                title,
                f"Bars of the {title.lower()} of each group of {attribute}, by arm, with intervals.",
                bars(drawn, title.lower(), high=1.0),
                Table(f"{title} by {attribute}", ("arm", *names), rows),
            )
        )
    counts = ", ".join(f"{name} {_count(blocks[0][1][0][name])}" for name in names)
    seeds = max(len(arm.rows) for arm, _ in blocks)
    how = (
        f"Student\u2019s t over {seeds} seeds"
        if seeds > 1
        else "Wilson\u2019s for the test records (how training varies is not in them)"
    )
    return Section(
        f"groups-{place}",
        f"By group: {attribute}",
        f"Test records by group: {counts}. Intervals: 95 %, {how}.",
        figures,
        tables,
    )


def _by_class(runs: Sequence[Mapping[str, Any]], name: str, metric: str) -> str:
    """With more than two classes a rate is a list, each class against the rest: means over the seeds."""
    columns = zip(*(run[name][metric] for run in runs), strict=True)
    return " / ".join(mean_of(over_seeds(column)) for column in columns)


def _count(block: Mapping[str, Any]) -> str:
    return f"{block.get('count', 0):,}"


def group_rate(runs: Sequence[Mapping[str, Any]], name: str, metric: str, counted: str) -> Estimate | None:
    """A group's rate over the seeds; with one seed the interval is that of its test records."""
    values = [run.get(name, {}).get(metric) for run in runs]
    if len(values) > 1:
        return over_seeds(values)
    return of_rate(values[0], _denominator(runs[0].get(name, {}), counted))


def _denominator(block: Mapping[str, Any], counted: str) -> float | None:
    if counted != "negatives":
        return block.get(counted)
    positives = block.get("positives")
    return None if positives is None else block["count"] - positives
