"""A run goes on after an interruption as if there had been none."""

from __future__ import annotations

import math
import shutil
import signal
from pathlib import Path

import pytest
import torch

from secure_fair import checkpoint
from secure_fair.errors import RunError
from tests.parties import faults
from tests.parties.faults import EPOCH, Trial
from tests.parties.world import ROLES


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("method", ["orth", "adv"])
def test_hurt_and_resumed(
    shared: Path, tmp_path: Path, few: Path, method: str, role: str, number: signal.Signals
) -> None:
    """The dealer deals ahead, but not far, so that the run notices that it has stalled."""
    trial = Trial(tmp_path, few, method, more=("--set", "network.prefetch=4"))
    hurt = faults.hurt(trial, role, number, 8)
    faults.check(hurt, role, number)
    faults.resume(trial)
    assert trial.resumed_after() in faults.newest_shared(hurt.steps)
    assert faults.equals(trial, faults.reference(shared, few, method))
    assert trial.debits() == 2  # without a bound both, and each attempt counts


def test_a_checkpoint_that_one_side_lacks_is_not_continued(shared: Path, tmp_path: Path, few: Path) -> None:
    """The auditor has lost its newest: both go back to the one before it."""
    trial = Trial(tmp_path, few)
    faults.hurt(trial, "developer", signal.SIGKILL, 10)
    (run,) = (trial.run / "auditor" / "checkpoints").iterdir()
    lost = max(run.glob("*.pt"))
    lost.unlink()
    faults.resume(trial)
    assert 0 < trial.resumed_after() < int(lost.stem[-9:])
    assert faults.equals(trial, faults.reference(shared, few, "orth"))


def test_shares_are_re_randomised_and_no_mask_is_kept(tmp_path: Path, few: Path) -> None:
    """A share of before and a share of after the interruption add up to noise."""
    trial = Trial(tmp_path, few, "adv")
    faults.hurt(trial, "dealer", signal.SIGKILL, 8)
    shutil.copytree(trial.run, tmp_path / "before")
    faults.hurt(trial, "dealer", signal.SIGKILL, 14, resume=True)

    def states(run: Path) -> dict[str, torch.Tensor]:
        """Both shares at the newest step that both sides have."""
        (auditor,) = (run / "auditor" / "checkpoints").iterdir()
        folders = {"developer": run / "developer" / "checkpoint", "auditor": auditor}
        shared = set.intersection(*({file.name for file in folder.glob("*.pt")} for folder in folders.values()))
        loaded = {role: torch.load(folder / max(shared), weights_only=True)["term"] for role, folder in folders.items()}
        assert all(set(state) == {"w share"} for state in loaded.values())
        return {role: state["w share"] for role, state in loaded.items()}

    before, after = states(tmp_path / "before"), states(trial.run)
    bound = 2**24 * math.sqrt(2) / 0.05  # |w| <= sqrt(2) / lambda, 24 fractional bits
    for shares in (before, after):
        assert (shares["developer"] + shares["auditor"]).abs().max() <= bound
    for mixed in (before["developer"] + after["auditor"], after["developer"] + before["auditor"]):
        assert (mixed.abs().double() > bound).all()  # uniform: below the bound with probability 2^-34


@pytest.mark.parametrize(("step", "made"), [(9, 2), (16, 3)])
def test_a_run_with_a_moment_an_epoch(tmp_path: Path, few: Path, step: int, made: int) -> None:
    """A copy of the run's folders, taken in the middle, goes on as the run itself did, and debits what is missing."""
    more = ("--set", "privacy.refresh=epoch", "--set", "network.timeout_seconds=30")
    whole, copy = (Trial(tmp_path / name, few, "orth", "moment", more) for name in ("whole", "copy"))
    faults.finish_and_copy(whole, step, copy.folder)
    assert copy.debits() == made
    faults.resume(copy)
    for trial in (whole, copy):
        assert trial.debits() == trial.epochs
        assert [line["step"] for line in trial.disclosed()] == [EPOCH * index for index in range(trial.epochs)]
    shared = EPOCH * made  # from here on the noise of another moment
    assert copy.rows()[: shared + 1] == whole.rows()[: shared + 1]
    assert (copy.difference(whole) == 0) == (made == copy.epochs)


@pytest.mark.parametrize("role", ROLES)
def test_a_party_dies_between_two_moments(tmp_path: Path, few: Path, role: str) -> None:
    trial = Trial(tmp_path, few, "orth", "moment", ("--set", "privacy.refresh=epoch"))
    hurt = faults.hurt(trial, role, signal.SIGKILL, 9)
    faults.check(hurt, role, signal.SIGKILL)
    faults.resume(trial)
    assert trial.debits() == trial.epochs
    assert trial.resumed_after() in faults.newest_shared(hurt.steps)


def test_steps_of_checkpoints(tmp_path: Path) -> None:
    for step in (3, 6, 9):
        checkpoint.save(tmp_path, step, {"run": "this", "step": step})
    assert checkpoint.steps(tmp_path, "this") == (9, 6)
    (tmp_path / "step-000000009.pt").write_bytes(b"damaged")
    assert checkpoint.steps(tmp_path, "this") == (6,)
    checkpoint.discard_after(tmp_path, 6)
    assert [file.name for file in tmp_path.iterdir()] == ["step-000000006.pt"]


# What a disk may leave of a file: torch meets each with another exception.
DAMAGE = {
    "nothing": b"",
    "zeros": bytes(1000),
    "no archive": b"damaged",
    "a pickle of nothing": b"\x80\x02.",  # IndexError
    "a pickle of what it never stored": b"\x80\x02h\x0c.",  # KeyError
    "no table": ["a list"],
    "no header": {"model": torch.ones(2)},
    "half a header": {"version": checkpoint.VERSION, "run": "this"},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    for step in (3, 6):
        checkpoint.save(tmp_path, step, {"run": "this", "step": step})
    content, file = DAMAGE[damage], tmp_path / "step-000000006.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    assert checkpoint.steps(tmp_path, "this") == (3,)
    state = checkpoint.load(tmp_path, "this")
    assert state is not None
    assert state["step"] == 3
    (tmp_path / "step-000000003.pt").write_bytes(b"")
    with pytest.raises(RunError, match="no checkpoint can be read; remove the run's folder"):
        checkpoint.load(tmp_path, "this")
