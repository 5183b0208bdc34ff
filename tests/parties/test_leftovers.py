"""Runs that came to nothing: one sentence for each cause, and no folder that was not there before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from parties import launch
from parties.leftovers import removed_if_refused
from secure_fair.errors import CrashedRunError, InterruptedRunError, RefusedError, SecureFairError
from secure_fair.privacy.accountant import Budget, gaussian_cost
from secure_fair.privacy.ledger import Ledger
from tests.parties import world
from tests.parties.commands import PATIENCE, Start

REFUSED: dict[str, tuple[list[str], str]] = {
    "policy": (["--policy", "policy.toml"], "the auditor: release 'gradient' is not allowed by the auditor's policy"),
    "settings": (["--set", 'lora.targets=["none"]'], "the developer: lora.targets: the backbone has no module `none`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_run_says_why_once_and_leaves_nothing(start: Start, tmp_path: Path, data: Path, case: str) -> None:
    """Nor does it warn of what has not been opened."""
    options, said = REFUSED[case]
    world.write_policy(tmp_path / "policy.toml", ["moment"])
    config, out = world.write_settings(tmp_path / "settings.toml", data), tmp_path / "runs" / "refused"
    fixed = ["simulate", "-c", str(config), "--method", "orth", "--release", "gradient", "--out", str(out)]
    command = start(
        "launcher", [*fixed, *(str(tmp_path / text) if text == "policy.toml" else text for text in options)]
    )
    assert command.wait() == 1
    (error,) = command.errors
    assert error.startswith(f"the run failed: {said}")
    assert (error.count(said.partition(": ")[2]), error.count("; the ")) == (1, 0)
    assert "warning" not in command.text
    assert not out.parent.exists()


def test_a_party_that_is_refused_leaves_nothing(
    start: Start, tmp_path: Path, data: Path, deployment: world.Deployment
) -> None:
    config, policy = world.write_settings(tmp_path / "settings.toml", data), tmp_path / "policy.toml"
    rules = ["--policy", str(world.write_policy(policy, ["moment"]))]
    auditor = start("auditor", deployment.party("auditor", config, tmp_path / "auditor", *rules))
    asked = ["--method", "orth", "--release", "gradient"]
    developer = start("developer", deployment.party("developer", config, tmp_path / "developer", *asked))
    assert (developer.wait(), auditor.wait()) == (1, 1)
    assert "release 'gradient' is not allowed" in developer.errors[0]
    assert not (tmp_path / "developer").exists()
    assert (tmp_path / "auditor" / "log.jsonl").exists()  # of its own refusals it keeps a log


def test_a_crash_is_not_told_in_the_words_of_an_earlier_attempt(tmp_path: Path) -> None:
    """A party that resumes appends to its log; one that then ends without a word has crashed."""
    log = tmp_path / "log.txt"
    log.write_text("error: developer: stopped by its user\n")
    with log.open("ab") as stream, subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        process.wait(PATIENCE)
        party = launch._Process("auditor", process, log, log.stat().st_size, stream)
        assert party.words == ""
        assert party.failure() == f"the auditor: exit code 3, see {log}"
        with pytest.raises(CrashedRunError, match="exit code 3"):
            launch._wait({"auditor": party})


def half_made(out: Path, name: str = "run_name") -> None:
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).touch()


def ends(out: Path, error: SecureFairError, fill: Callable[[], None], *, alone: bool = False) -> None:
    """A run into OUT that writes something and fails."""
    with removed_if_refused(out, alone=alone):
        fill()
        raise error


@pytest.mark.parametrize("error", [RefusedError(), CrashedRunError(), InterruptedRunError()])
def test_a_crash_or_a_signal_leaves_what_there_is(tmp_path: Path, error: SecureFairError) -> None:
    out = tmp_path / "a" / "run"
    with pytest.raises(type(error)):
        ends(out, error, lambda: half_made(out, "developer/disclosures.jsonl"))
    assert (tmp_path / "a").exists() == (not isinstance(error, RefusedError))
    assert tmp_path.exists()


def test_a_folder_that_was_there_stays_as_it_was(tmp_path: Path) -> None:
    half_made(tmp_path / "run")
    with pytest.raises(RefusedError):
        ends(tmp_path / "run", RefusedError(), lambda: None)
    assert (tmp_path / "run" / "run_name").exists()


def test_another_run_in_the_same_new_folder_stays(tmp_path: Path) -> None:
    def fill() -> None:
        half_made(tmp_path / "runs" / "one")
        half_made(tmp_path / "runs" / "two")

    with pytest.raises(RefusedError):
        ends(tmp_path / "runs" / "one", RefusedError(), fill)
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["two"]


@pytest.mark.parametrize("name", ["moment_share.npz", "soft_attributes.npz", "checkpoint/step-000000001.pt"])
def test_what_another_attempt_goes_on_from_stays(tmp_path: Path, name: str) -> None:
    with pytest.raises(RefusedError):
        ends(tmp_path / "run", RefusedError(), lambda: half_made(tmp_path / "run", name))
    assert (tmp_path / "run" / name).exists()


@pytest.mark.parametrize("debited", [False, True])
def test_a_ledger_that_was_debited_stays(tmp_path: Path, debited: bool) -> None:
    cost, budget = gaussian_cost(2.0, 1e-5), Budget(4.0, 1e-5)

    def fill() -> None:
        half_made(tmp_path / "run")
        with Ledger(tmp_path / "run" / "ledger.sqlite", by_person=False) as ledger:
            if debited:
                ledger.reserve("moment", b"request", ["p"], cost, budget)

    with pytest.raises(RefusedError):
        ends(tmp_path / "run", RefusedError(), fill)
    assert (tmp_path / "run").exists() == debited


def test_another_partys_ledger_stays_in_a_developers_folder(tmp_path: Path) -> None:
    """An auditor that serves from a folder inside of it has debited nobody yet."""

    def fill() -> None:
        half_made(tmp_path / "run" / "auditor")
        with Ledger(tmp_path / "run" / "auditor" / "ledger.sqlite", by_person=False):
            pass

    with pytest.raises(RefusedError):
        ends(tmp_path / "run", RefusedError(), fill, alone=True)
    assert (tmp_path / "run" / "auditor" / "ledger.sqlite").exists()


@pytest.mark.parametrize("whole", [False, True])
def test_a_damaged_ledger_stays(tmp_path: Path, whole: bool) -> None:
    """Damaged from its first byte on, or in a page that is read later."""
    ledger = tmp_path / "run" / "ledger.sqlite"

    def fill() -> None:
        half_made(tmp_path / "run")
        if whole:
            ledger.write_text("?")
            return
        with Ledger(ledger, by_person=False) as found:
            found.reserve("moment", b"request", ["p"], gaussian_cost(2.0, 1e-5), Budget(4.0, 1e-5))
        page = ledger.read_bytes().rindex(b"moment")
        content = bytearray(ledger.read_bytes())
        content[page // 4096 * 4096 : page // 4096 * 4096 + 4096] = bytes([255]) * 4096
        ledger.write_bytes(content)

    with pytest.raises(RefusedError):
        ends(tmp_path / "run", RefusedError(), fill)
    assert ledger.exists()
