"""From trainings to points: means over seeds with their intervals, and moment against randomized response."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from benchmarks.frontier.measures import BIAS, UTILITY
from secure_fair.report.statistics import LEAST

Row = dict[str, Any]

CONFIDENCE = 0.95
INTERVAL = (
    f"{CONFIDENCE:.0%} Student t interval of the mean over seeds; a seed is its own draw of faces, initial weights, "
    "batch order, projection and noise; null below three seeds"
)
FACTS = ("method", "release", "epsilon", "rank", "weight")


def points(trainings: Sequence[Row]) -> list[Row]:
    """One row for each arm, in the order given: its facts, and mean, low and high of every measure."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in trainings:
        groups.setdefault(tuple(row[fact] for fact in FACTS), []).append(row)
    return [
        {
            **dict(zip(FACTS, facts, strict=True)),
            "seeds": len(rows),
            "metrics": {name: interval([row["metrics"][name] for row in rows]) for name in rows[0]["metrics"]},
            "leakage": {name: interval([row["leakage"][name] for row in rows]) for name in rows[0]["leakage"]},
            "train_seconds": statistics.fmean(row["train_seconds"] for row in rows),
        }
        for facts, rows in groups.items()
    ]


def paired(trainings: Sequence[Row]) -> list[Row]:
    """moment minus randomized-response, seed by seed, at each epsilon and rank: below zero, moment is less."""
    pairs: dict[tuple[float, int], dict[str, dict[int, Row]]] = {}
    for row in trainings:
        if row["release"] != "none":
            pairs.setdefault((row["epsilon"], row["rank"]), {}).setdefault(row["release"], {})[row["seed"]] = row
    compared = []
    for (epsilon, rank), by_release in pairs.items():
        moment, flipped = by_release["moment"], by_release["randomized-response"]
        differences = {
            name: interval([moment[seed]["metrics"][name] - flipped[seed]["metrics"][name] for seed in moment])
            for name in (BIAS, UTILITY)
        }
        compared.append({"epsilon": epsilon, "rank": rank, **differences})
    return compared


def interval(values: Sequence[float | None]) -> dict[str, float | None]:
    """mean, low and high; null where a value is undefined, and without an interval from fewer than LEAST values."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return {"mean": None, "low": None, "high": None}
    mean = statistics.fmean(known)
    if len(known) < LEAST:
        return {"mean": mean, "low": None, "high": None}
    quantile = float(student.ppf((1 + CONFIDENCE) / 2, len(known) - 1))
    half = quantile * statistics.stdev(known) / math.sqrt(len(known))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def write_csv(rows: Sequence[Row], file: Path) -> None:
    """One line for each arm; epsilon is `inf` without noise; an empty cell is a measure that the arm does not have."""
    names = [
        (block, name) for block in ("metrics", "leakage") for name in dict.fromkeys(n for r in rows for n in r[block])
    ]
    columns = [f"{name}_{part}" for _, name in names for part in ("mean", "low", "high")]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow((*FACTS, "seeds", *columns))
        for row in rows:
            values = [row[block].get(name, {}).get(part) for block, name in names for part in ("mean", "low", "high")]
            cells = ("" if value is None else f"{value:.6g}" for value in values)
            writer.writerow((*(row[fact] for fact in FACTS), row["seeds"], *cells))
