"""The files of a ledger: made once and whole; its key, and the monotonic counter of debits beside the table."""

from __future__ import annotations

import json
import os
from pathlib import Path

from secure_fair.errors import LedgerError

_VERSION = 1


def create_key(path: Path) -> None:
    """Write 256 random bits, mode 0600."""
    temporary = temporary_beside(path)
    _write(temporary, os.urandom(32))
    link_new(temporary, path)


def temporary_beside(path: Path) -> Path:
    """A name of this process's own in the same folder, not taken."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    return temporary


def link_new(temporary: Path, path: Path) -> None:
    """Give a complete file its name, from which moment it exists; if another process was first, that one's stays."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    _sync_folder(path.parent)


def read_key(path: Path) -> bytes:
    """The key; LedgerError if it is gone or if others may read it (ids are guessable, so a hash needs its key)."""
    try:
        if path.stat().st_mode & 0o077:
            raise LedgerError(f"{path}: others may read the ledger's key; run `chmod 600` on it")
        return path.read_bytes()
    except OSError as error:
        raise LedgerError(f"{path}: the ledger's key cannot be read ({error.strerror}); restore it") from None


def write_counter(path: Path, ledger: str, counter: int) -> None:
    """Replace the counter atomically and durably. The caller holds the ledger's write lock."""
    temporary = path.with_name(f"{path.name}.new")
    _write(temporary, json.dumps({"version": _VERSION, "ledger": ledger, "counter": counter}).encode())
    temporary.replace(path)
    _sync_folder(path.parent)


def verify_counter(path: Path, ledger: str, counter: int) -> None:
    """Refuse a table that is behind its counter.

    It may be ahead: then a crash came between a debit and its counter, before anything was sent.
    """
    reached: int | None = 0 if counter == 0 and not path.exists() else None
    try:
        stored = json.loads(path.read_bytes())
        if stored["ledger"] == ledger and stored["version"] == _VERSION:
            reached = int(stored["counter"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if reached is None:
        raise LedgerError(f"{path}: missing, damaged, or of another ledger or version; restore the newest copy")
    if reached > counter:
        raise LedgerError(
            f"{path}: counts {reached} debits and the ledger holds {counter}: the ledger was restored from an older "
            "copy, and what was spent since would be forgotten; restore the newest copy"
        )


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
