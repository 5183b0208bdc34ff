"""Numbers in the documentation that were measured, and the result files that they come from.

A comment before a paragraph, a table or a code block names the file, and a pointer for each number in it, in order:

    <!-- measured: benchmarks/results/demo/compare.json
    rows/0/metrics/accuracy rows/0/metrics/auc*100 - overhead/orth/gradient -->

`-` skips a number that was not measured (a seed, a setting); `*100` scales; `a~b` is a difference. A printed number has
to be the value in the file, rounded to the digits that are printed. A block whose numbers come from elsewhere follows
`<!-- not measured: why -->`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COMMENT = re.compile(r"<!-- (not )?measured: (.*?) ?-->\n*", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.\-/])[-+\u2212]?\d[\d,]*(?:\.\d+)?(?![\w]*[\w/]\.\w)")
DECIMAL = re.compile(r"(?<![\w.\-/])[-+\u2212]?\d{1,3}\.\d{2,}(?![.\w])")  # no arXiv number


@dataclass(frozen=True)
class Block:
    """A paragraph, table or code block, and the comment before it."""

    page: Path
    text: str
    marked: bool
    source: str = ""
    pointers: tuple[str, ...] = ()


def blocks(page: Path) -> Iterator[Block]:
    """The page's blocks; fences stay whole, and a comment belongs to the block after it."""
    for text in _parts(page.read_text().splitlines()):
        found = COMMENT.match(text)
        if found is None:
            yield Block(page, text, marked=False)
        elif found[1]:
            yield Block(page, text[found.end() :], marked=True)
        else:
            source, *pointers = found[2].split()
            yield Block(page, text[found.end() :], True, source, tuple(pointers))


def _parts(lines: Iterable[str]) -> Iterator[str]:
    """What blank lines part, except within a fence or a comment and right after a comment."""
    part: list[str] = []
    fenced = False
    for line in lines:
        fenced ^= line.lstrip().startswith("```")
        text = "\n".join([*part, line])
        after_comment = text.lstrip().startswith("<!--") and not text.partition("-->")[2].strip()
        if line.strip() or fenced or after_comment:
            part.append(line)
        elif part:
            yield "\n".join(part).lstrip("\n")
            part = []
    if part:
        yield "\n".join(part).lstrip("\n")


def numbers(text: str) -> list[str]:
    """The numbers of a block as printed; those inside of code spans and links' targets are names."""
    if not text.startswith("```"):
        text = re.sub(r"`[^`]*`|\]\([^)]*\)", lambda found: " " * len(found[0]), text)
    return NUMBER.findall(text)


def value(table: Any, pointer: str) -> float | None:
    """What a pointer stands for: a path, or the difference of two, and a factor."""
    path, _, factor = pointer.partition("*")
    first, _, second = path.partition("~")
    found = _at(table, first)
    if found is not None and second:
        found -= _at(table, second)
    return None if found is None else found * float(factor or 1)


def _at(table: Any, path: str) -> Any:
    for key in path.split("/"):
        table = table[int(key)] if isinstance(table, list) else table[key]
    return table


def agrees(printed: str, measured: float) -> bool:
    """Whether the measured value, rounded to the printed digits, is what is printed."""
    text = printed.replace("\u2212", "-").replace(",", "").removeprefix("+")
    digits = Decimal(1).scaleb(-len(text.partition(".")[2]))
    exact = Decimal(repr(float(measured)))
    near = {exact.quantize(digits, ROUND_HALF_EVEN), Decimal(f"{measured:.{len(text.partition('.')[2])}f}")}
    return Decimal(text) in near


def provenance(result: Mapping[str, Any]) -> tuple[Any, Any]:
    """(command, commit) of a result file."""
    place = result.get("environment", result)
    return place.get("command"), place.get("commit")


def load(source: str) -> Any:
    """A committed result file."""
    return json.loads((ROOT / source).read_text())
