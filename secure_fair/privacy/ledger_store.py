"""The ledger's file: created whole, checked when opened, written in atomic and durable transactions.

SQLite in WAL mode with full syncs. Beside FILE lie FILE.key, the secret of its keyed hashes, and FILE.counter, the
debits that the table must hold, so that a table restored from an older copy is refused. What this cannot see: somebody
who puts back all the files of one old moment, or deletes them all.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secure_fair.errors import LedgerBusyError, LedgerError
from secure_fair.privacy.ledger_files import (
    create_key,
    link_new,
    read_key,
    temporary_beside,
    verify_counter,
    write_counter,
)

FORMAT = 1
LOCK_SECONDS = 30.0
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)  # say nothing against what is stored
_SCHEMA = f"""
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE meta (ledger TEXT NOT NULL, key_check BLOB NOT NULL, by_person INTEGER NOT NULL, counter INTEGER NOT NULL);
CREATE TABLE persons (person BLOB PRIMARY KEY, rho INTEGER NOT NULL, pure INTEGER) WITHOUT ROWID;
CREATE TABLE releases (id INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, request BLOB NOT NULL,
    persons INTEGER NOT NULL, rho INTEGER NOT NULL, pure INTEGER, delta REAL NOT NULL, answer BLOB);
CREATE INDEX releases_by_request ON releases (request);
CREATE TABLE flips (person BLOB NOT NULL, question TEXT NOT NULL, value INTEGER NOT NULL,
    PRIMARY KEY (person, question)) WITHOUT ROWID;
PRAGMA user_version = {FORMAT};
COMMIT;
"""


class LedgerStore:
    """The open file of a ledger. `key` is for its keyed hashes; `database` for reading, and writing in `writing`."""

    def __init__(self, path: Path, by_person: bool | None) -> None:
        self._path = path
        self._counter_path = path.with_name(path.name + ".counter")
        key_path = path.with_name(path.name + ".key")
        counted = self._counter_path.exists()  # asked before the next line: a process that creates both makes it last
        exists = path.exists()
        if not exists and (counted or by_person is None):
            gone = "is gone but its counter is there" if counted else "does not exist"
            raise LedgerError(f"{path}: the ledger {gone}; mend the path, or restore the newest copy")
        if not exists:
            create_key(key_path)
        self.key = read_key(key_path)
        self._key_check = hmac.digest(self.key, b"key check", "sha256")
        with self._mapped_errors():
            if not exists:
                self._create(bool(by_person))
            self.database = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
            try:
                self.database.execute("PRAGMA synchronous = FULL")
                self.database.execute("PRAGMA temp_store = MEMORY")
                self._verify(by_person)
                self._publish_counter()
            except BaseException:
                self.database.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One atomic, durable transaction, alone on the ledger from its first read on. Refuses a restored table."""
        with self._mapped_errors():
            self.database.execute("BEGIN IMMEDIATE")
            try:
                verify_counter(self._counter_path, *self._counter())
                yield
                self.database.execute("COMMIT")
            except BaseException:
                if self.database.in_transaction:  # an interruption may come when it has just been committed
                    self.database.execute("ROLLBACK")
                raise

    @contextmanager
    def debiting(self) -> Iterator[None]:
        """`writing`, and counts one debit, in the table and then in the file beside it."""
        with self.writing():
            yield
            self.database.execute("UPDATE meta SET counter = counter + 1")
        self._publish_counter()

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is the details
            kind = LedgerBusyError if code in _PASSING else LedgerError
            raise kind(f"{self._path}: {error}; free the lock or the disk, then run again") from None
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"{self._path}: not a usable ledger ({error}); restore the newest copy") from None

    def _create(self, by_person: bool) -> None:
        temporary = temporary_beside(self._path)
        database = sqlite3.connect(temporary, isolation_level=None)
        try:
            database.executescript(_SCHEMA)
            database.execute("INSERT INTO meta VALUES (?, ?, ?, 0)", [os.urandom(16).hex(), self._key_check, by_person])
        finally:
            database.close()
        temporary.chmod(0o600)
        link_new(temporary, self._path)

    def _verify(self, by_person: bool | None) -> None:
        version = self.database.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT:
            raise LedgerError(
                f"{self._path}: ledger format {version}, this program reads {FORMAT}; restore the newest copy, "
                "or use the version of secure-fair that wrote it"
            )
        stored, grouped = self.database.execute("SELECT key_check, by_person FROM meta").fetchone()
        if not hmac.compare_digest(stored, self._key_check):
            raise LedgerError(f"{self._path}.key: not this ledger's key, so budgets would start anew; restore it")
        if by_person is not None and bool(grouped) != by_person:
            raise LedgerError(
                f"{self._path}: counts per {'person' if grouped else 'record'}, and the policy now says otherwise, "
                "which would refund what was spent; restore `person` in the policy"
            )

    def _counter(self) -> tuple[str, int]:
        name, counter = self.database.execute("SELECT ledger, counter FROM meta").fetchone()
        return str(name), int(counter)

    def _publish_counter(self) -> None:
        """After the commit, under SQLite's lock: the counter never goes back, and never leads the table."""
        with self.writing():
            write_counter(self._counter_path, *self._counter())
