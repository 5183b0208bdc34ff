"""Training curves over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from secure_fair.report.charts.common import WIDTH, Key
from secure_fair.report.scales import Scale, Tick, padded

MAX_POINTS = 240  # of a line: about one for each unit of its width
# Of the thin lines in turn: arms of one release have one colour, and not everybody tells colours apart.
DASHES = ("", "8 3", "2.5 2.5", "10 3 2.5 3", "16 4", "6 2.5 2 2.5 2 2.5")


@dataclass(frozen=True)
class Line:
    key: Key
    path: str
    wide: bool
    dash: str  # SVG's stroke-dasharray


@dataclass(frozen=True)
class Lines:
    height: float
    left: float
    right: float
    bottom: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_name: str
    y_name: str
    lines: list[Line]
    width: float = WIDTH


def lines(
    curves: Sequence[tuple[Key, Sequence[float], Sequence[float]]], x_name: str, y_name: str, *, knee: float | None
) -> Lines:
    """Curves (key, steps, values) over each other: the first thick and light, so that one that equals it covers it."""
    left, right, top, bottom = 66.0, WIDTH - 12.0, 12.0, 214.0
    thin = [(key, *thinned(steps, values)) for key, steps, values in curves]
    x = Scale(0.0, max(step for _, steps, _ in thin for step in steps), left, right)
    shown = [v for _, _, values in thin for v in values]
    y = Scale(*padded(shown, 0.05, floor=0.0 if min(shown) >= 0 else None), bottom, top, knee)
    drawn = [
        Line(
            key,
            " ".join(f"{x(s)},{y(v)}" for s, v in zip(steps, values, strict=True)),
            wide=place == 0,
            dash=DASHES[(place - 1) % len(DASHES)] if place else "",
        )
        for place, (key, steps, values) in enumerate(thin)
    ]
    return Lines(bottom + 40, left, right, bottom, x.ticks(), y.ticks(), x_name, y_name, drawn)


def thinned(steps: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most MAX_POINTS points: means of neighbours where there are more."""
    size = math.ceil(len(steps) / MAX_POINTS)
    starts = range(0, len(steps), size)

    def means(column: Sequence[float]) -> list[float]:
        return [math.fsum(column[start : start + size]) / len(column[start : start + size]) for start in starts]

    return means(steps), means(values)
