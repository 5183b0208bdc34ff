"""Processes that die, and processes that race."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from secure_fair.privacy.ledger import Ledger
from tests.privacy.ledger_worker import COST, PERSONS

WORKER = str(Path(__file__).with_name("ledger_worker.py"))
LATEST_KILL = 0.05  # seconds after the first line: a release takes a few milliseconds


def kill_at_random(folder: Path, generator: random.Random, *options: str) -> bool:
    """Start the worker, SIGKILL it at a random moment; is at least as much spent as was sent?"""
    ledger, wire = folder / "ledger.sqlite", folder / "wire"
    before = wire.stat().st_size if wire.exists() else 0
    worker = subprocess.Popen([sys.executable, WORKER, "forever", str(ledger), str(wire), *options])
    try:
        deadline = time.monotonic() + 60
        while (wire.stat().st_size if wire.exists() else 0) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(generator.uniform(0, LATEST_KILL))
    finally:
        worker.kill()
        worker.wait(timeout=30)
    sent = len(wire.read_bytes().splitlines())
    with Ledger(ledger, by_person=True) as opened:
        return all(opened.spent(person).rho >= sent * COST.rho for person in PERSONS)


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_killed_process_never_leaves_less_spent_than_sent(tmp_path: Path, kills: int) -> None:
    generator = random.Random(kills)
    for _ in range(kills):
        assert kill_at_random(tmp_path, generator)
    assert len((tmp_path / "wire").read_bytes().splitlines()) >= kills


def test_the_same_check_catches_a_debit_after_the_send(tmp_path: Path) -> None:
    """Each kill finds the mutant with a chance above one half: 40 misses have a chance below 1e-12."""
    generator = random.Random(1)
    assert not all(kill_at_random(tmp_path, generator, "late") for _ in range(40))


def test_two_processes_cannot_both_spend_the_last(tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger.sqlite")
    workers = [
        subprocess.Popen(
            [sys.executable, WORKER, "race", ledger], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        winners = []
        for person in range(30):
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(f"person {person}\n")
                worker.stdin.flush()
            results = [worker.stdout.readline().strip() for worker in workers if worker.stdout is not None]
            assert sorted(results) == ["lost", "won"]
            winners.append(results.index("won"))
        with Ledger(Path(ledger), by_person=True) as opened:
            assert len(opened.releases()) == 30
    finally:
        for worker in workers:
            worker.communicate(timeout=30)
