"""Workers: each has its device, an error waits for what runs, and none outlives an interruption."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from parties import workers
from parties.experiment import _told_to
from parties.workers import Workers
from secure_fair.errors import RunError, SettingsError
from tests.parties import commands
from tests.parties.chores import work


def work_that_fails() -> None:
    os.write(2, b"inside\n")
    raise SettingsError("mend it")


def done(folder: Path) -> list[tuple[str, float, float]]:
    lines = (line.split() for line in (folder / "done").read_text().splitlines())
    return [(device, float(began), float(ended)) for device, began, ended in lines]


def test_no_two_work_on_one_device_at_a_time(tmp_path: Path) -> None:
    """A long job and short ones: by number, every other short one would share the long one's device."""
    said: list[str] = []
    with Workers(work, 2, ("first", "second"), said.append) as pool:
        pool.run([(seconds, tmp_path) for seconds in ("3", "0.1", "0.2", "0.3", "0.4")])
    found = done(tmp_path)
    assert len(found) == len(said) == 5
    for device in ("first", "second"):
        times = sorted(times for name, *times in found if name == device)
        assert times
        assert all(ended <= begun for (_, ended), (begun, _) in pairwise(times))


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("wrong", SettingsError, "'wrong'.*: mend it"),
        ("odd", RunError, "unexpected ZeroDivisionError"),
        ("killed", RunError, "its process died with status -9"),
    ],
)
def test_an_error_waits_for_what_runs(tmp_path: Path, name: str, error: type[Exception], text: str) -> None:
    """What runs ends when the error has been told, however long each worker took to start."""

    def say(told: str) -> None:
        if "waiting for what runs" in told:
            (tmp_path / "go").touch()

    with Workers(work, 2, (), say) as pool:
        with pytest.raises(error, match=text):
            pool.run([("patient", tmp_path), (name, tmp_path), ("0", tmp_path), ("0", tmp_path)])
        assert len(done(tmp_path)) == 1  # what ran is done, and nothing was begun any more
        pool.run([("0", tmp_path)])
    assert len(done(tmp_path)) == 2


def test_an_interruption_ends_them_at_once(tmp_path: Path) -> None:
    code = (
        "import signal, sys, pathlib\n"
        "from parties.workers import Workers\n"
        "from tests.parties.chores import work\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell has its background ignore it
        "    with Workers(work, 2, (), lambda text: print(text, flush=True)) as pool:\n"
        "        pool.run([('endless', pathlib.Path(sys.argv[1]))] * 3)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            commands.until((tmp_path / "endless").exists)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=30)  # the end of its output: no worker has it open any more
        finally:
            process.kill()
    assert time.monotonic() - began < 10
    assert "ending what runs: ('endless'" in told


def ours() -> list[SpawnProcess]:
    """The workers that live."""
    return [child for child in multiprocessing.active_children() if isinstance(child, SpawnProcess)]


def test_none_outlives_what_cannot_be_told(tmp_path: Path) -> None:
    def say(_: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError), Workers(work, 2, (), say) as pool:
        pool.run([("0", tmp_path), ("endless", tmp_path)])
    left = ours()
    for worker in left:
        worker.kill()
    assert not left


def test_a_worker_that_died_between_two_jobs_is_told_of(tmp_path: Path) -> None:
    with Workers(work, 1, (), print) as pool:
        pool.run([("0", tmp_path)])
        (idle,) = ours()
        idle.kill()
        idle.join(10)
        with pytest.raises(RunError, match=r"\('0', .*: its process died with status -9; run the command again"):
            pool.run([("0", tmp_path)])
        pool.run([("0", tmp_path)])


def test_a_worker_that_says_no_more_and_lives_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "END_SECONDS", 0.1)
    with Workers(work, 1, (), print) as pool:
        with pytest.raises(RunError, match=r"'mute'.*: its process died with status -9"):
            pool.run([("mute", tmp_path)])
        assert not ours()


def test_standard_error_comes_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A later training of the worker must not write into the log of an earlier one."""
    with pytest.raises(SettingsError), _told_to(tmp_path / "log"):
        work_that_fails()
    os.write(2, b"outside\n")
    assert (tmp_path / "log").read_text() == "inside\n"
    assert capfd.readouterr().err == "outside\n"
