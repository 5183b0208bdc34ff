"""Utility against bias."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from secure_fair.report.charts.common import BADGE, WIDTH, Key
from secure_fair.report.scales import Scale, Tick, padded
from secure_fair.report.statistics import Estimate


@dataclass(frozen=True)
class Mark:
    """A point of the scatter: its place, its badge's place, and the bars of its intervals."""

    key: Key
    x: float
    y: float
    badge_x: float
    badge_y: float
    bars: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Scatter:
    height: float
    left: float
    bottom: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_name: str
    y_name: str
    front: str  # points of a polyline
    marks: list[Mark]
    width: float = WIDTH


@dataclass(frozen=True)
class Point:
    """What a scatter shows: bias to the right, utility upwards."""

    key: Key
    bias: Estimate
    utility: Estimate


def scatter(points: Sequence[Point], front: Sequence[int], x_name: str, y_name: str) -> Scatter:
    """Utility against bias, and the line through the points of the Pareto front."""
    left, right, top, bottom = 52.0, WIDTH - 14, 16.0, 254.0
    x = Scale(*padded(_bounds(p.bias for p in points), 0.12, floor=0.0), left, right)
    y = Scale(*padded(_bounds(p.utility for p in points), 0.16), bottom, top)
    marks: list[Mark] = []
    for point in points:
        at = x(point.bias.mean), y(point.utility.mean)
        badge = _free(at, [(m.badge_x, m.badge_y) for m in marks], (left, right, top, bottom))
        bars = []
        if point.bias.low is not None and point.bias.high is not None:
            bars.append((x(max(point.bias.low, x.low)), at[1], x(point.bias.high), at[1]))
        if point.utility.low is not None and point.utility.high is not None:
            bars.append((at[0], y(point.utility.low), at[0], y(point.utility.high)))
        marks.append(Mark(point.key, *at, *badge, tuple(bars)))
    line = " ".join(f"{marks[i].x},{marks[i].y}" for i in front)
    return Scatter(bottom + 40, left, bottom, x.ticks(), y.ticks(6), x_name, y_name, line, marks)


def _free(
    at: tuple[float, float], taken: Sequence[tuple[float, float]], area: tuple[float, float, float, float]
) -> tuple[float, float]:
    """A place for a badge near its point, clear of the others: equal arms would cover each other."""
    left, right, top, bottom = area
    directions = [(math.cos(k * math.pi / 4 - math.pi / 4), math.sin(k * math.pi / 4 - math.pi / 4)) for k in range(8)]
    for distance in (0.0, 2.6 * BADGE, 5 * BADGE, 7.4 * BADGE):
        for dx, dy in directions:
            x, y = round(at[0] + distance * dx, 2), round(at[1] + distance * dy, 2)
            inside = left <= x <= right and top <= y <= bottom
            if inside and all(math.hypot(x - a, y - b) >= 2.2 * BADGE for a, b in taken):
                return x, y
    return at


def _bounds(values: Iterable[Estimate]) -> list[float]:
    return [v for e in values for v in (e.mean, e.low, e.high) if v is not None]
