"""Numbers in the documentation that were measured, and the result files that they come from.

A comment before a paragraph, a table or a code block names the file, and a pointer for each number in it, in order:

    <!-- measured: benchmarks/results/demo/compare.json
    rows/0/metrics/accuracy rows/0/metrics/auc*100 - overhead/orth/gradient -->

`-` skips a number that was not measured (a seed, a setting); `*100` scales; `a+b` is a sum, `a~b` a difference;
`rows/{0,1}/x` is two pointers. A printed number has to be the value in the file, rounded to the digits that are
printed. A block whose numbers come from elsewhere follows `<!-- not measured: why -->`.

After a new measurement `python -m tests.measured README.md` writes the new numbers into a page.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from benchmarks import tables

ROOT = Path(__file__).parents[1]
COMMENT = re.compile(r"<!-- (not )?measured: (.*?) ?-->\n*", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.\-/])[-+\u2212]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w]*[\w/]\.\w)")
CODE = re.compile(r"`[^`]*`|\]\([^)]*\)")
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
    """The page's blocks; fences stay whole, and a comment belongs to the block after it.

    Without the tables that `benchmarks.tables` writes, which a test of their own compares with their files.
    """
    for text in _parts(tables.BLOCK.sub("", page.read_text()).splitlines()):
        found = COMMENT.match(text)
        if found is None:
            yield Block(page, text, marked=False)
        elif found[1]:
            yield Block(page, text[found.end() :], marked=True)
        else:
            source, *written = found[2].split()
            pointers = tuple(pointer for entry in written for pointer in expanded(entry))
            yield Block(page, text[found.end() :], True, source, pointers)


def expanded(pointer: str) -> list[str]:
    """`rows/0/{a,b}/c` is `rows/0/a/c` and `rows/0/b/c`."""
    found = re.search(r"\{([^{}]*)\}", pointer)
    if found is None:
        return [pointer]
    ways = [pointer[: found.start()] + way + pointer[found.end() :] for way in found[1].split(",")]
    return [one for way in ways for one in expanded(way)]


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
        text = CODE.sub(lambda found: " " * len(found[0]), text)
    return NUMBER.findall(text)


def value(table: Any, pointer: str) -> float | None:
    """What a pointer stands for: a path, sums and differences of several, and a factor. None where one is null."""
    paths, _, factor = pointer.partition("*")
    total = 0.0
    for sign, path in re.findall(r"([+~]?)([^+~]+)", paths):
        part = _at(table, path)
        if part is None:
            return None
        total += -part if sign == "~" else part
    return total * float(factor or 1)


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


def renewed(block: Block) -> str:
    """The block with each measured number as its file has it now, with as many digits."""
    result, pointers = load(block.source), iter(block.pointers)

    def new(found: re.Match[str]) -> str:
        pointer = next(pointers)
        measured = None if pointer == "-" else value(result, pointer)
        if measured is None:
            return found[0]
        sign = "+" if found[0].startswith("+") else ""
        comma = "," if "," in found[0] else ""
        text = f"{measured:{sign}{comma}.{len(found[0].partition('.')[2])}f}"
        return text.replace("-", "\u2212") if "\u2212" in found[0] else text

    names = CODE.finditer(block.text) if not block.text.startswith("```") else ()
    spans = [match.span() for match in names]
    return NUMBER.sub(lambda m: m[0] if any(a <= m.start() < b for a, b in spans) else new(m), block.text)


def provenance(result: Mapping[str, Any]) -> tuple[Any, Any]:
    """(command, commit) of a result file."""
    place = result.get("environment", result)
    return place.get("command"), place.get("commit")


def load(source: str) -> Any:
    """A committed result file."""
    return json.loads((ROOT / source).read_text())


def main(page: Path) -> None:
    """Write the numbers of the files into the page."""
    text = page.read_text()
    for block in blocks(page):
        if block.source:
            text = text.replace(block.text, renewed(block))
    page.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
