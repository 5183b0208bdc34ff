"""Horizontal bars: rates by group, epsilon against its budget, bytes against their floor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from secure_fair.report.charts.common import WIDTH, Key, shortened
from secure_fair.report.scales import Scale, Tick
from secure_fair.report.statistics import Estimate

LETTER = 7.5  # about the width of one


@dataclass(frozen=True)
class Bar:
    """One bar before it is drawn: a label at its left, a value, an interval, a marker (a floor, a budget)."""

    label: str
    value: Estimate | None
    text: str
    marker: float | None = None
    unbounded: bool = False


@dataclass(frozen=True)
class DrawnBar:
    label: str
    y: float
    end: float
    text: str
    text_x: float
    whisker: tuple[float, float] | None
    marker: float | None
    unbounded: bool


@dataclass(frozen=True)
class BarGroup:
    key: Key
    y: float
    bars: list[DrawnBar]


@dataclass(frozen=True)
class Bars:
    height: float
    left: float
    right: float
    bottom: float
    ticks: list[Tick]
    groups: list[BarGroup]
    thickness: float
    x_name: str
    width: float = WIDTH


def bars(groups: Iterable[tuple[Key, Sequence[Bar]]], x_name: str, *, high: float | None = None) -> Bars:
    """Horizontal bars from zero, those of an arm together. high: the range's end where it is known (1 for rates)."""
    rows = list(groups)
    shown = [bar for _, own in rows for bar in own]
    ends = [bar.value.high or bar.value.mean for bar in shown if bar.value is not None]
    top = high or max([*ends, *(bar.marker for bar in shown if bar.marker is not None)], default=0.0) or 1.0
    left = 40.0 + max((LETTER * len(shortened(bar.label)) for bar in shown), default=0.0)
    right = WIDTH - 70.0
    x = Scale(0.0, top, left, right)
    thickness, gap, y = 13.0, 12.0, 8.0
    drawn: list[BarGroup] = []
    for key, own in rows:
        middle = y + len(own) * (thickness + 3) / 2 - 1.5
        made = [_bar(bar, x, y + place * (thickness + 3)) for place, bar in enumerate(own)]
        drawn.append(BarGroup(key, middle, made))
        y += len(own) * (thickness + 3) + gap
    return Bars(y + 30, left, right, y - 4, x.ticks(4), drawn, thickness, x_name)


def _bar(bar: Bar, x: Scale, y: float) -> DrawnBar:
    end, whisker = x.start, None
    if bar.unbounded:
        end = x.end
    elif bar.value is not None:
        end = x(min(bar.value.mean, x.high))
        if bar.value.low is not None and bar.value.high is not None:
            whisker = x(max(bar.value.low, 0.0)), x(min(bar.value.high, x.high))
    marker = None if bar.marker is None else x(bar.marker)
    text_x = max(end, whisker[1] if whisker else 0.0, marker or 0.0) + 6
    return DrawnBar(shortened(bar.label), y, end, bar.text, text_x, whisker, marker, bar.unbounded)
