"""Files that are whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to, which takes its place when the block ends, and is removed when it fails."""
    partial = file.with_name(f"{file.name}.tmp")
    try:
        yield partial
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(file: Path, text: str) -> None:
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Indented, in UTF-8; raises ValueError for a number that JSON has not (NaN, infinity)."""
    write_text(file, json.dumps(content, indent=2, allow_nan=False) + "\n")
