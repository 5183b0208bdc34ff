"""What a run that came to nothing leaves behind: nothing, so that the same command can be given again."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from parties.moments import SOFT_FILE
from secure_fair.errors import CrashedRunError, InterruptedRunError, SecureFairError
from secure_fair.privacy.disclosures import LOG_NAME

# What another attempt goes on from, wherever it lies in the folder.
_CONTINUED = ("cost.json", "summary.json", "checkpoint*/*", "*_share.npz", SOFT_FILE)


@contextmanager
def removed_if_refused(out: Path, *, alone: bool = False) -> Iterator[None]:
    """For a block that fills OUT: if it is refused, or its settings or data are wrong, before anything was released or
    kept, the folders that it made go again. What was there before stays, and so does what a crash or a signal has left.

    alone: the block is the developer's only, so that a ledger in there is somebody else's, and everything stays.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        yield
    except (CrashedRunError, InterruptedRunError):
        raise
    except SecureFairError:
        if made and not _worth_keeping(out) and not (alone and any(out.rglob("ledger.sqlite"))):
            shutil.rmtree(out, ignore_errors=True)
            with suppress(OSError):  # somebody else uses it
                for folder in made[1:]:
                    folder.rmdir()
        raise


def _worth_keeping(out: Path) -> bool:
    if any(found for pattern in _CONTINUED for found in out.rglob(pattern)):
        return True
    return any(log.stat().st_size for log in out.rglob(LOG_NAME)) or any(map(_debited, out.rglob("ledger.sqlite")))


def _debited(ledger: Path) -> bool:
    """One that cannot be read may hold anything."""
    from secure_fair.privacy.ledger import Ledger  # the developer's process has no use for it

    try:
        with Ledger(ledger, None) as found:
            return bool(found.releases())
    except (SecureFairError, sqlite3.Error, OSError):
        return True
