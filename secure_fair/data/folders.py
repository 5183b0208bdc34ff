"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from secure_fair.errors import DataError

Progress = Callable[[int, int], None]  # done, total


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a partial folder beside `out` and rename it to `out` on success; on any failure remove it.

    A killed process leaves `.NAME.PID.partial`, which no command reads. Raises DataError when `out` exists and is not
    an empty folder, or cannot be made.
    """
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        raise DataError(f"{out}: exists and is not empty; name another folder or remove it")
    partial = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    except OSError as error:
        raise DataError(f"{out}: cannot be made ({error.strerror}); choose a folder that you may write") from error
    try:
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
