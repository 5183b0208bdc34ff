"""`python -m benchmarks.tables PAGE...` writes the tables of a Markdown page anew from committed result files.

A table stands between `<!-- from: FILE, rows -->` (or `claims`) and `<!-- end -->`; FILE is relative to the project.
`tests/benchmarks/test_tables.py` fails when a page and its files differ.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- from: (\S+), (rows|claims) -->\n).*?(<!-- end -->)", re.DOTALL)
MODULES = {
    "primitives": "benchmarks.primitives.results",
    "network": "benchmarks.network.study",
    "delayed": "benchmarks.network.delayed",
    "effect": "benchmarks.network.effect",
    "tls": "benchmarks.network.tls",
    "scaling": "benchmarks.scaling.study",
    "overhead": "benchmarks.overhead.study",
    "results": "benchmarks.experiment_table",
    "sweep": "benchmarks.sweep.table",
}


def rewritten(page: str) -> str:
    """The page with every table as its file has it."""
    return BLOCK.sub(lambda match: match[1] + table(ROOT / match[2], match[3]) + match[4], page)


def table(file: Path, part: str) -> str:
    """The rows or the claims of a result file as Markdown, with the command and the machine above them."""
    found: dict[str, Any] = json.loads(file.read_text())
    if part == "claims":
        claims = importlib.import_module("benchmarks.primitives.claims")
        return "\n" + markdown(("claim", "limit", "measured", ""), claims.lines(found["claims"])) + "\n"
    study = importlib.import_module(MODULES[file.stem])
    return f"{origin(file, found['environment'])}\n\n{markdown(study.COLUMNS, study.lines(found))}\n"


def origin(file: Path, environment: dict[str, Any]) -> str:
    """Where the numbers below are from."""
    versions = environment["versions"]
    machine = f"{environment['cores']} cores"
    if "processor" in environment:  # where seconds were measured, and not only what was learned
        machine += f" of {environment['processor']}, load average {environment['load_average'][0]:.1f} at its end"
    software = f"Python {versions['python']}, torch {versions['torch']}"
    return f"\n`{environment['command']}`, {machine}, {software}: `{file.relative_to(ROOT)}`"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; every column but the first is aligned to the right."""
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def main(pages: Sequence[str]) -> None:
    for page in map(Path, pages):
        page.write_text(rewritten(page.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
