"""Rows of dots with intervals: what an attack gains, and what it knew before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secure_fair.report.charts.common import WIDTH, Key
from secure_fair.report.scales import Scale, Tick, padded


@dataclass(frozen=True)
class Dot:
    """A value in a row of dots; kinds are drawn differently: `after`, `before`, `floor`, `bound`."""

    kind: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DrawnDot:
    kind: str
    x: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Dots:
    height: float
    left: float
    right: float
    bottom: float
    ticks: list[Tick]
    rows: list[tuple[Key, float, list[DrawnDot]]]
    zero: float | None
    x_name: str
    width: float = WIDTH


def dots(
    rows: Sequence[tuple[Key, Sequence[Dot]]], x_name: str, span: tuple[float, float] | None = None, *, zero: bool
) -> Dots:
    """A row of dots for each arm. zero: a line there, which an interval may or may not touch."""
    values = [v for _, own in rows for dot in own for v in (dot.value, dot.low, dot.high) if v is not None]
    low, high = span or padded([*values, 0.0] if zero else values, 0.06)
    left, right, pitch = 40.0, WIDTH - 20.0, 32.0
    x = Scale(low, high, left, right)
    made = [
        (
            key,
            20 + place * pitch,
            [
                DrawnDot(
                    d.kind, x(d.value), d.low if d.low is None else x(d.low), d.high if d.high is None else x(d.high)
                )
                for d in own
            ],
        )
        for place, (key, own) in enumerate(rows)
    ]
    bottom = 8 + len(rows) * pitch
    return Dots(bottom + 34, left, right, bottom, x.ticks(), made, x(0.0) if zero else None, x_name)
