"""From values to places on a drawing: ranges, round ticks, and a scale that shows several magnitudes and zero."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and what is written there."""

    place: float
    text: str


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on places from `start` to `end`; `knee`: linear below it, logarithmic above."""

    low: float
    high: float
    start: float
    end: float
    knee: float | None = None

    def __call__(self, value: float) -> float:
        low, high, own = (self._bent(v) for v in (self.low, self.high, value))
        share = (own - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, about: int = 5) -> list[Tick]:
        """Round values within the range."""
        values = magnitudes(self.low, self.high, self.knee) if self.knee else round_values(self.low, self.high, about)
        return [Tick(self(value), f"{value:.6g}".replace("e-0", "e-").replace("-", "\u2212")) for value in values]

    def _bent(self, value: float) -> float:
        return value if self.knee is None else math.asinh(value / self.knee)


def padded(values: Iterable[float], share: float = 0.08, *, floor: float | None = None) -> tuple[float, float]:
    """A range that holds the values with some room, and does not go below `floor`."""
    found = list(values)
    low, high = min(found), max(found)
    room = (high - low or abs(high) or 1.0) * share
    return (low - room if floor is None else max(floor, low - room)), high + room


def round_values(low: float, high: float, about: int) -> list[float]:
    """Multiples of a round step, about so many."""
    raw = (high - low) / max(about, 1) or 1.0
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in _STEPS if factor * magnitude >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def magnitudes(low: float, high: float, knee: float) -> list[float]:
    """Zero, where it is in range, and powers of ten above the knee on either side."""
    top = max(abs(low), abs(high))
    powers = [10.0**n for n in range(math.ceil(math.log10(knee) - 1e-9), math.floor(math.log10(top) + 1e-9) + 1)]
    wanted = [*(-p for p in reversed(powers)), 0.0, *powers]
    inside = [value for value in wanted if low <= value <= high]
    return inside[:: 1 + len(inside) // 7]
