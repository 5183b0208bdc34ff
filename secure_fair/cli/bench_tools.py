"""What the commands of `secure-fair bench` share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import secure_fair
from secure_fair.cli import console

PATH = click.Path(path_type=Path, file_okay=False)
CLAIM_COLUMNS = ("claim", "limit", "measured", "")


def several(
    one: click.ParamType[Any],
) -> Callable[[click.Context, click.Parameter, str], tuple[Any, ...]]:
    """An option's callback: comma-separated values of one type."""

    def convert(context: click.Context, parameter: click.Parameter, value: str) -> tuple[Any, ...]:
        return tuple(one.convert(part.strip(), parameter, context) for part in value.split(","))

    return convert


def benchmark(name: str) -> ModuleType:
    """The module `benchmarks.NAME`. Benchmarks stand above the command line and are loaded when one is asked for.

    CrypTen 0.4.1 installs a package `benchmarks` too, which hides ours from an editable install.
    """
    root = str(Path(secure_fair.__file__).parents[1])
    if sys.path[0] != root:
        sys.path.insert(0, root)  # processes that a benchmark starts inherit it
    return importlib.import_module(f"benchmarks.{name}")


def show(title: str, study: ModuleType, result: dict[str, Any], as_json: bool, file: Path) -> None:
    """The rows as a table and the claims below it, or both as JSON."""
    if as_json:
        console.print_json(result)
        return
    console.print_table(title, study.COLUMNS, study.lines(result))
    if result["claims"]:
        console.print_table("claims", CLAIM_COLUMNS, benchmark("primitives.claims").lines(result["claims"]))
    click.echo(f"wrote {file}")
