"""The ledger's files: restored, lost, swapped, locked, full, of another version or kind, readable by others."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from secure_fair.errors import LedgerBusyError, LedgerError
from secure_fair.privacy import ledger_store
from secure_fair.privacy.accountant import NOTHING
from secure_fair.privacy.ledger import Ledger, request_digest
from tests.privacy.budgets import BUDGET, ONE, SUFFIXES, ask, never_called


@pytest.mark.parametrize("why", ["locked", "full"])
def test_what_passes_by_is_no_reason_to_distrust_the_ledger(
    path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Nothing is handed out meanwhile, and afterwards the ledger goes on with what it had."""
    monkeypatch.setattr(ledger_store, "LOCK_SECONDS", 0.1)
    with Ledger(path, by_person=True) as opened:
        ask(opened, 1)
        database = opened._store.database
        if why == "locked":
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
        else:
            pages = database.execute("PRAGMA page_count").fetchone()[0]
            database.execute(f"PRAGMA max_page_count = {pages}")
        big = tuple(f"person {number}" for number in range(2000))
        with pytest.raises(LedgerBusyError, match="free the lock or the disk"):
            opened.answer("moment", request_digest({"name": 2}), big, ONE, BUDGET, never_called)
        if why == "locked":
            other.execute("ROLLBACK")
            other.close()
        else:
            database.execute(f"PRAGMA max_page_count = {10**6}")
        assert opened.spent("ada") == ONE
        assert opened.spent(big[0]) == NOTHING
        assert ask(opened, 3) == b"bytes"
    with pytest.raises(LedgerError) as caught:
        Ledger(path.with_name("elsewhere"), by_person=None)
    assert not isinstance(caught.value, LedgerBusyError)


def test_a_restored_ledger_is_detected(path: Path) -> None:
    with Ledger(path, by_person=True) as opened:
        ask(opened, 1)
    shutil.copy(path, path.with_name("old"))
    with Ledger(path, by_person=True) as opened:
        ask(opened, 2)
    shutil.copy(path.with_name("old"), path)
    with pytest.raises(LedgerError, match="restored from an older copy"):
        Ledger(path, by_person=True)
    with pytest.raises(LedgerError, match="restored from an older copy"):
        Ledger(path, by_person=None)


def test_a_ledger_restored_under_a_running_auditor_is_detected(path: Path) -> None:
    """The counter is read in each transaction, not only at the start."""
    with Ledger(path, by_person=True) as opened:
        ask(opened, 1)
        counter = path.with_name(path.name + ".counter")
        counter.write_text(json.dumps(json.loads(counter.read_text()) | {"counter": 2}))
        with pytest.raises(LedgerError, match="counts 2 debits and the ledger holds 1"):
            ask(opened, 2)


def test_a_crash_between_the_debit_and_its_counter_is_no_alarm(path: Path) -> None:
    counter = path.with_name(path.name + ".counter")
    with Ledger(path, by_person=True) as opened:
        ask(opened, 1)
        before = counter.read_bytes()
        ask(opened, 2)
    counter.write_bytes(before)
    with Ledger(path, by_person=True) as opened:
        assert opened.spent("ada") == ONE + ONE
    assert json.loads(counter.read_text())["counter"] == 2


@pytest.mark.parametrize("lost", SUFFIXES)
def test_a_lost_file_is_detected(path: Path, lost: str) -> None:
    with Ledger(path, by_person=True) as opened:
        ask(opened, 1)
    path.with_name(path.name + lost).unlink()
    with pytest.raises(LedgerError, match=r"restore"):
        Ledger(path, by_person=True)


@pytest.mark.parametrize("swapped", SUFFIXES[1:])
def test_a_file_of_another_ledger_is_detected(tmp_path: Path, swapped: str) -> None:
    for name in "ab":
        with Ledger(tmp_path / name, by_person=True) as opened:
            ask(opened, 1)
    shutil.copy(tmp_path / f"a{swapped}", tmp_path / f"b{swapped}")
    with pytest.raises(LedgerError, match="restore"):
        Ledger(tmp_path / "b", by_person=True)


def test_a_ledger_of_another_version_or_of_another_kind_is_refused(path: Path, tmp_path: Path) -> None:
    Ledger(path, by_person=True).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(LedgerError, match="format 7, this program reads 1"):
        Ledger(path, by_person=True)
    other = tmp_path / "other"
    Ledger(other, by_person=True).close()
    other.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerError, match="not a usable ledger"):
        Ledger(other, by_person=True)


def test_records_do_not_become_persons_half_way(path: Path) -> None:
    """Otherwise budgets would start anew under other names."""
    Ledger(path, by_person=False).close()
    with pytest.raises(LedgerError, match="counts per record"):
        Ledger(path, by_person=True)


def test_a_key_that_others_may_read_is_refused(path: Path) -> None:
    Ledger(path, by_person=True).close()
    for name in SUFFIXES:
        assert stat.S_IMODE(path.with_name(path.name + name).stat().st_mode) == 0o600
    key = path.with_name(path.name + ".key")
    key.chmod(0o644)
    with pytest.raises(LedgerError, match="chmod 600"):
        Ledger(path, by_person=True)


def test_the_file_holds_no_id(path: Path) -> None:
    person = "a-person-with-a-long-and-visible-name"
    with Ledger(path, by_person=True) as opened:
        ask(opened, 1, (person,))
        opened.memoise("Male", [person], [1])
    for name in SUFFIXES:
        assert person.encode() not in path.with_name(path.name + name).read_bytes()
