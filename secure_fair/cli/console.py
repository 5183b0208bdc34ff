"""What commands share: progress, tables, warnings, JSON. Results go to standard output, the rest to standard error."""

from __future__ import annotations

import functools
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_INTERVAL = 10.0  # seconds between two plain lines of one stage

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")


class Reporter:
    """Progress of stages: a bar with rate and time left on a terminal, a plain line now and then elsewhere.

    Use it as a context manager and call it with the stage's name, what is done and what there is to do.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._printed: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._stream.isatty():
            self._bar = _bar(self._stream)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._bar is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total)
            self._bar.update(self._tasks[stage], completed=done, total=total)
            return
        now = time.monotonic()
        started = self._started.setdefault(stage, now)
        if done >= total or now - self._printed.get(stage, -math.inf) >= PLAIN_INTERVAL:
            self._printed[stage] = now
            click.echo(f"{stage}: {done}/{total}{_pace(done, total, now - started)}", file=self._stream)

    def stage(self, name: str) -> Callable[[int, int], None]:
        """A callable of what is done and what there is to do, for code that has one stage only."""
        return functools.partial(self, name)

    def line(self, text: str) -> None:
        """A line of its own; above the bars where there are bars."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, file=self._stream)


def _bar(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f}/s")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(""),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(file=stream),
    )


def _pace(done: int, total: int, seconds: float) -> str:
    if done == 0 or seconds < 1.0:
        return ""
    left = "" if done >= total else f", {seconds / done * (total - done):.0f} s left"
    return f" ({done / seconds:.1f}/s{left})"


def warn(text: str) -> None:
    """One warning line on standard error."""
    click.echo(f"warning: {text}", err=True)


def say(text: str) -> None:
    """One line of progress on standard error."""
    click.echo(text, err=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, compact: bool = False) -> None:
    """A table on standard output; every column but the first is aligned to the right. `compact`: without verticals.

    Elsewhere than on a terminal it is as wide as it needs to be, so that logs and pipes lose nothing.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD if compact else box.HEAVY_HEAD,
        pad_edge=not compact,
    )
    for position, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if position else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 400).print(table)


def print_json(value: object) -> None:
    """One JSON object on standard output: NaN and infinities are null, paths are strings."""
    click.echo(json.dumps(plain(value), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """The same value in JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # numpy's and torch's arrays and numbers
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
