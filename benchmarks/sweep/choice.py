"""From trainings to lines and choices: means over seeds, and what the rule takes of each axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.sweep.grid import Arm, Axis, Sweep
from secure_fair.report.experiment import METRICS, TESTED, differences
from secure_fair.report.statistics import over_seeds

Row = Mapping[str, Any]
UTILITY, BIAS = TESTED
MAX_LOSS, CLEAR = 0.03, 0.02
RULE = (
    f"By the validation split, means over seeds: of the values of a setting the one is taken whose {BIAS} is smallest "
    f"among those whose {UTILITY} is at most {MAX_LOSS:g} below that of ERM in the base; where there is none, and for "
    f"ERM itself, the one with the highest {UTILITY}. A default is clearly worse than the value taken where it loses "
    f"more {UTILITY} than that and the other does not, or where the other is better, in what decided, by at least "
    f"{CLEAR:g} and in every seed; one seed makes nothing clear."
)


def lines(sweep: Sweep, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One for each value of each axis: estimates over seeds."""
    return [line for axis in sweep.axes for line in _lines(sweep, axis, complete(sweep, axis, rows))]


def complete(sweep: Sweep, axis: Axis, rows: Sequence[Row]) -> list[Row]:
    """The rows of the seeds in which ERM and every value of the axis were trained."""
    arms = [Arm("erm"), *(axis.arm(value, sweep.base) for value in axis.values)]
    seeds = set.intersection(*(set(_rows(rows, arm)) for arm in arms))
    return [row for row in rows if row["seed"] in seeds]


def _lines(sweep: Sweep, axis: Axis, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    for value in axis.values:
        own = _rows(rows, axis.arm(value, sweep.base))
        yield {
            "setting": axis.setting,
            "value": value,
            "is_default": value == axis.default,
            "method": axis.method,
            "release": axis.release,
            **{split: _estimates(_split(own, split)) for split in ("val", "test")},
        }


def choices(sweep: Sweep, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What RULE takes of each axis, and whether the program's default is clearly worse; reads validation rows only."""
    return [_choice(sweep, axis, complete(sweep, axis, rows)) for axis in sweep.axes]


def _choice(sweep: Sweep, axis: Axis, rows: Sequence[Row]) -> dict[str, Any]:
    floor = _mean(_split(_rows(rows, Arm("erm")), "val"), UTILITY) - MAX_LOSS
    scored = {value: _split(_rows(rows, axis.arm(value, sweep.base)), "val") for value in axis.values}
    kept = [value for value in axis.values if _mean(scored[value], UTILITY) >= floor]
    decides, sign = (UTILITY, -1.0) if axis.method == "erm" or not kept else (BIAS, 1.0)
    taken = min(kept or axis.values, key=lambda value: sign * _mean(scored[value], decides))
    gains = [sign * gain for gain in differences(scored[axis.default], scored[taken], decides)]
    better = min(gains) > 0 and sum(gains) / len(gains) >= CLEAR
    return {
        "setting": axis.setting,
        "method": axis.method,
        "release": axis.release,
        "default": axis.default,
        "taken": taken,
        "seeds": len(gains),
        "decided_by": decides,
        "gain": sum(gains) / len(gains),
        "clear": len(gains) > 1 and (better or (taken in kept and axis.default not in kept)),
    }


def _rows(rows: Sequence[Row], arm: Arm) -> dict[int, Row]:
    return {row["seed"]: row for row in rows if row["arm"] == arm.name}


def _split(rows: Mapping[int, Row], split: str) -> dict[int, Row]:
    """As `differences` wants them."""
    return {seed: {"metrics": row[split]} for seed, row in rows.items()}


def _mean(rows: Mapping[int, Row], metric: str) -> float:
    estimate = over_seeds(row["metrics"][metric] for row in rows.values())
    assert estimate is not None  # noqa: S101 (groups of hundreds of records have every rate)
    return estimate.mean


def _estimates(rows: Mapping[int, Row]) -> dict[str, Any]:
    return {metric: _estimate([row["metrics"][metric] for row in rows.values()]) for metric in METRICS}


def _estimate(values: Sequence[float | None]) -> dict[str, Any]:
    estimate = over_seeds(values)
    return {} if estimate is None else asdict(estimate)
