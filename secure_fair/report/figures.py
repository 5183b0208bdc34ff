"""A section's parts: tables, and drawings that each have a table of the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from secure_fair.report.arms import Arm
from secure_fair.report.charts.bars import Bars
from secure_fair.report.charts.common import Key
from secure_fair.report.charts.dots import Dots
from secure_fair.report.charts.lines import Lines
from secure_fair.report.charts.scatter import Scatter
from secure_fair.report.palette import RELEASES
from secure_fair.report.statistics import Estimate

Cells = Sequence[str | Key]
MINUS = "\u2212"


@dataclass(frozen=True)
class Table:
    """Cells are text, or an arm's key, which is drawn as its badge. The first column heads its row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Cells]
    words: bool = False  # cells are text to read, not numbers to compare


@dataclass(frozen=True)
class Figure:
    """A drawing with its title, its text alternative, and its numbers."""

    title: str
    alt: str
    drawing: Scatter | Bars | Dots | Lines
    table: Table
    note: str = ""
    legend: Sequence[tuple[str, str]] = ()  # (kind of dot, what it is)

    @property
    def kind(self) -> str:
        return type(self.drawing).__name__.lower()


@dataclass(frozen=True)
class Section:
    """One heading of the page."""

    anchor: str
    title: str
    lead: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


def keys(arms: Iterable[Arm]) -> Mapping[str, Key]:
    """Letters A, B, ... by the arms' names; more than 26 go on with AA."""
    found: dict[str, Key] = {}
    for number, arm in enumerate(arms):
        letter = (chr(64 + number // 26) if number >= 26 else "") + chr(65 + number % 26)
        colour = arm.release if arm.secure and arm.release in RELEASES else "plaintext"
        found[arm.name] = Key(letter, colour, arm.name)
    return found


def number(value: float | None, form: str = ".3f", unit: str = "") -> str:
    """A number as the page writes it; a dash where there is none."""
    if value is None:
        return "\u2013"
    text = format(value, form)
    negative = text.startswith("-") and any(digit in text for digit in "123456789")
    return (MINUS if negative else "") + text.removeprefix("-") + unit


def mean_of(value: Estimate | None, form: str = ".3f") -> str:
    """The mean without its interval."""
    return number(None if value is None else value.mean, form)


def interval(value: Estimate | None, form: str = ".3f", *, range_of: bool = False) -> str:
    """The mean with its interval: half its width, or from where to where."""
    if value is None or value.low is None or value.high is None:
        return mean_of(value, form)
    if range_of:
        return f"{number(value.mean, form)} ({number(value.low, form)} to {number(value.high, form)})"
    return f"{number(value.mean, form)} \u00b1 {number(value.half, form.lstrip('+'))}"


def plain(value: float) -> Estimate:
    """A value that has no interval."""
    return Estimate(value, None, None, 1)
