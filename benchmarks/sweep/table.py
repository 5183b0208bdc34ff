"""The sweep's choices as a table of the documentation (benchmarks.tables): a line for each setting and arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.sweep.choice import BIAS, UTILITY

COLUMNS = ("setting", "arm", "tried", "seeds", "default", "accuracy", "bias", "taken", "accuracy", "bias", "clear")


def lines(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """Balanced accuracy and equalized-odds difference of the test split, which chose nothing."""
    for choice in found["choices"]:
        own = [
            line for line in found["lines"] if all(line[key] == choice[key] for key in ("setting", "method", "release"))
        ]
        default, taken = (next(line for line in own if line["value"] == choice[key]) for key in ("default", "taken"))
        release = f", `{choice['release']}`" if choice["release"] else ""
        tried = ", ".join(_text(line["value"]) for line in own)
        yield [
            f"`{choice['setting']}`",
            f"`{choice['method']}`{release}",
            tried,
            str(choice["seeds"]),
            *_cells(default),
            *_cells(taken),
            ("yes" if choice["clear"] else "no") if choice["seeds"] > 1 else "one seed",
        ]


def _cells(line: Mapping[str, Any]) -> tuple[str, str, str]:
    return _text(line["value"]), f"{line['test'][UTILITY]['mean']:.3f}", f"{line['test'][BIAS]['mean']:.3f}"


def _text(value: Any) -> str:
    return "+".join(value) if isinstance(value, list) else f"{value:g}"
