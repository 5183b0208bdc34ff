"""The developer in several processes: the result of one process, and one end for all when something fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from secure_fair.cli.main import run as secure_fair
from secure_fair.cli.serving import served
from secure_fair.errors import SettingsError
from secure_fair.settings import Settings
from secure_fair.training import torchrun
from tests.parties import world
from tests.parties.commands import PATIENCE, Command, descendants, until
from tests.parties.several import BATCH, Trial, check_equal, identical, trial
from tests.parties.world import PROMPT, Deployment


@pytest.mark.parametrize("method", ["orth", pytest.param("adv", marks=pytest.mark.slow)])
def test_gradient(shared: Path, few: Path, identities: Deployment, method: str) -> None:
    alone, both = (trial(shared, few, identities, method, "gradient", ranks) for ranks in (1, 2))
    check_equal(both, alone)
    cost = both.cost()
    same = ("steps", "rounds_per_step", "bytes_sent", "bytes_received", "floor_bytes")
    assert {key: cost[key] for key in same} == {key: alone.cost()[key] for key in same}
    assert (cost["processes"], alone.cost()["processes"]) == (2, 1)
    assert alone.cost()["gather_seconds"] == alone.cost()["reduce_seconds"] == 0
    assert cost["gather_seconds"] > 0
    assert cost["reduce_seconds"] > 0
    assert cost["gather_seconds"] + cost["reduce_seconds"] < cost["train_seconds"]


def test_moment(shared: Path, few: Path, identities: Deployment, tmp_path: Path) -> None:
    """The noise is another one each time: so features are compared by what a release with little noise teaches of them,
    and training by that with one release for both.
    """
    alone, both = (trial(shared, few, identities, "orth", "moment", ranks) for ranks in (1, 2))
    tables = [np.load(run.out / "soft_attributes.npz") for run in (alone, both)]
    assert (tables[0]["ids"] == tables[1]["ids"]).all()
    ours, theirs = (table["soft"][:, 0] for table in tables)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99
    reused = Trial(tmp_path, few, identities, "orth", "moment").finish("--reuse", str(alone.out), roles=["developer"])
    check_equal(reused, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"training__delayed": True, "training__micro_batch_size": 2},
        {
            "data__workers": 2,
            "fairness__criterion": "parity",
            "adversary__hidden": 8,
            "lora__targets": '["qkv", "fc1"]',
        },
        {"training__epochs": 2, "training__batch_size": 14, "training__checkpoint_steps": 1},
    ],
)
def test_other_settings(few: Path, identities: Deployment, tmp_path: Path, settings: dict[str, Any]) -> None:
    runs = [Trial(tmp_path / f"{ranks}", few, identities, "adv", "gradient", ranks) for ranks in (1, 3)]
    for run in runs:
        run.finish(**settings)
    check_equal(*runs)


@pytest.mark.slow
def test_a_moment_an_epoch(few: Path, identities: Deployment, tmp_path: Path) -> None:
    """The features of the model as it is are asked for in the middle of a step. With so little noise, and so little
    learned between releases, they teach the same in one process and in two.
    """
    runs = [Trial(tmp_path / f"{ranks}", few, identities, "orth", "moment", ranks) for ranks in (1, 2)]
    for run in runs:
        run.finish(privacy__refresh="epoch", training__epochs=2, training__learning_rate=1e-5)
    ours, theirs = (np.load(run.out / "soft_attributes.npz") for run in runs)
    assert (ours["ids"] == theirs["ids"]).all()
    assert (int(ours["index"]), int(theirs["index"])) == (1, 1)
    assert np.corrcoef(ours["soft"][:, 0], theirs["soft"][:, 0])[0, 1] > 0.99


def test_plain_training(few: Path, tmp_path: Path) -> None:
    """More processes than the last batch has records, and more than divide a batch."""
    config = world.write_settings(tmp_path / "settings.toml", few)
    fixed = ["train", "-c", str(config), "--method", "erm", "--set", f"training.batch_size={BATCH}", "--json"]
    summaries = {}
    for ranks in (1, 2, 4):
        command = Command.start([*fixed, "--out", str(tmp_path / f"{ranks}")], tmp_path / f"{ranks}.log", ranks=ranks)
        try:
            assert command.wait() == 0, command.text
        finally:
            command.kill()
        summaries[ranks] = json.loads((tmp_path / f"{ranks}" / "summary.json").read_text())
        assert summaries[ranks].pop("cost")["processes"] == ranks
        assert command.text.count('"metrics"') == 1  # one process prints
    assert summaries[2] == summaries[4] == summaries[1]


def test_a_killed_auditor_ends_all_and_the_run_goes_on(
    shared: Path, few: Path, identities: Deployment, tmp_path: Path
) -> None:
    """To a result bit-identical with that of an undisturbed run."""
    hurt = Trial(tmp_path, few, identities, "orth", "gradient")
    commands = hurt.start()
    try:
        until(lambda: hurt.steps() >= 8)
        ranks = descendants(commands["developer"].process.pid)
        assert len(ranks) == 2
        os.kill(commands["auditor"].process.pid or 0, signal.SIGKILL)
        began = time.monotonic()
        assert commands["developer"].wait(PROMPT) == 1
        assert commands["dealer"].wait(PROMPT) == 1
        _, alive = psutil.wait_procs(ranks, max(0.0, began + PROMPT - time.monotonic()))
        assert not alive
    finally:
        for command in commands.values():
            command.kill()
    told = commands["developer"].errors
    assert sum("auditor went away" in text and "(step " in text for text in told) == 1, told
    assert all("auditor went away" in text or "process 1 of 2: another process ended" in text for text in told)
    assert "Traceback (most recent call last)" not in commands["dealer"].text
    hurt.finish("--resume")
    first = next(line for line in (tmp_path / "developer-resumed.log").read_text().splitlines() if "training: " in line)
    assert 0 < int(first.removeprefix("training: ").split("/")[0]) <= hurt.steps()
    assert identical(hurt, trial(shared, few, identities, "orth", "gradient", 2))


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_stopped_torchrun_ends_all(few: Path, identities: Deployment, tmp_path: Path, number: signal.Signals) -> None:
    stopped = Trial(tmp_path, few, identities, "orth", "gradient")
    commands = stopped.start(training__epochs=100)
    try:
        until(lambda: stopped.steps() >= 3)
        ranks = descendants(commands["developer"].process.pid)
        began = time.monotonic()
        os.kill(commands["developer"].process.pid or 0, number)
        for role in world.ROLES:
            assert commands[role].wait(PROMPT) != 0
        _, alive = psutil.wait_procs(ranks, max(0.0, began + PROMPT - time.monotonic()))
        assert not alive
    finally:
        for command in commands.values():
            command.kill()
    said = "stopped by SIGTERM (step " if number == signal.SIGTERM else "interrupted; the same command with --resume"
    assert any(said in text for text in commands["developer"].errors)
    assert len(commands["auditor"].errors) == len(commands["dealer"].errors) == 1


UNDER = {"TORCHELASTIC_RUN_ID": "tests", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("LOCAL_WORLD_SIZE", "1", "must be on one host"), ("TORCHELASTIC_MAX_RESTARTS", "3", "use --max-restarts 0")],
)
def test_what_torchrun_must_not_do(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    """Refused before any process waits for another one."""
    for key, own in (UNDER | {name: value}).items():
        monkeypatch.setenv(key, own)
    with pytest.raises(SettingsError, match=said), torchrun.joined(Settings()):
        pass


def test_a_launcher_is_not_for_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for key, own in UNDER.items():
        monkeypatch.setenv(key, own)
    assert secure_fair(["simulate", "-c", "none", "--method", "erm", "--release", "none", "--out", str(tmp_path)]) == 2
    assert "torchrun would start `simulate` several times over" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="start this party several times over"), served(tmp_path, "", forever=True):
        pass


def test_records_that_one_process_would_leave_out_are_refused(
    few: Path, identities: Deployment, tmp_path: Path
) -> None:
    pytest.importorskip("private_set_intersection", reason="the extra psi is not installed")
    refused = Trial(tmp_path, few, identities, "orth", "moment")
    (developer,) = refused.start(roles=["developer"], attributes__alignment="psi").values()
    try:
        assert developer.wait() == 1
    finally:
        developer.kill()
    assert any("one process leaves records out; leave torchrun out" in text for text in developer.errors)


def test_a_method_with_a_second_model_is_refused(few: Path, identities: Deployment, tmp_path: Path) -> None:
    """Before auditor or dealer has heard of it; the other process ends too."""
    refused = Trial(tmp_path, few, identities, "unl", "moment")
    (developer,) = refused.start(roles=["developer"]).values()
    try:
        assert developer.wait() == 1
    finally:
        developer.kill()
    assert any(text.startswith("method `unl` needs a second LoRA") for text in developer.errors)
    assert not refused.out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_stalls_ends_the_others(
    few: Path, identities: Deployment, tmp_path: Path, number: signal.Signals
) -> None:
    """A stall is noticed when the longest wait that rank 0 may have with its own peers has passed."""
    hurt = Trial(tmp_path, few, identities, "orth", "gradient")
    commands = hurt.start(training__epochs=100, network__idle_timeout_seconds=5)
    try:
        until(lambda: hurt.steps() >= 3)
        ranks = descendants(commands["developer"].process.pid)
        (follower,) = [rank for rank in ranks if not any("steps.csv" in file.path for file in rank.open_files())]
        follower.send_signal(number)
        others = [rank for rank in ranks if rank != follower]
        _, alive = psutil.wait_procs(others, PATIENCE if number == signal.SIGSTOP else PROMPT)
        assert not alive
        assert all(commands[role].wait(PROMPT) == 1 for role in ("auditor", "dealer"))
        if number == signal.SIGSTOP:
            follower.send_signal(
                signal.SIGCONT
            )  # it has been asked to end; torchrun itself would kill it after a while
        assert commands["developer"].wait(PROMPT) == 1
        assert not follower.is_running()
    finally:
        for command in commands.values():
            command.kill()
    said = "process 0 of 2: another process ended" if number == signal.SIGKILL else "did not go on"
    assert any(said in text for text in commands["developer"].errors)


@pytest.mark.slow
def test_as_a_user_types_it(few: Path, tmp_path: Path) -> None:
    """torchrun itself, in programs that start from nothing."""
    config = world.write_settings(tmp_path / "settings.toml", few)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "secure_fair", "train"]
    more = ["-c", str(config), "--method", "erm", "--out", str(tmp_path / "run")]
    subprocess.run([*command, *more], check=True, timeout=PATIENCE * 2)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["cost"]["processes"] == 2
