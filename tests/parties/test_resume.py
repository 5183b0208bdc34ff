"""A run goes on after an interruption as if there had been none."""

from __future__ import annotations

import math
import shutil
import signal
from pathlib import Path

import pytest
import torch

from secure_fair import checkpoint
from tests.parties import faults, world
from tests.parties.faults import EPOCHS, STEPS, Trial
from tests.parties.world import ROLES

# The secure gradient of ADV has 2^-17 of rounding in h, and shares that are re-randomised are truncated another way,
# by less than one unit of 2^-24 a step. Adam divides a gradient by its own size: what differs by 1e-5 of it moves a
# weight by 1e-5 of the learning rate a step, and by the whole rate where the gradient itself is of that size.
TOLERANCE = STEPS * faults.LEARNING_RATE * 0.05


@pytest.fixture(scope="session")
def few(shared: Path) -> Path:
    return world.prepared(shared, faults.FACES)


@pytest.fixture(scope="session")
def reference(shared: Path, few: Path) -> dict[str, Trial]:
    """Uninterrupted runs."""

    def made(method: str) -> Trial:
        folder = world.once(shared, f"uninterrupted-{method}", lambda folder: Trial(folder, few, method).finish())
        return Trial(folder, few, method)

    return {method: made(method) for method in ("orth", "adv")}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("method", ["orth", "adv"])
def test_killed_and_resumed(reference: dict[str, Trial], tmp_path: Path, few: Path, method: str, role: str) -> None:
    trial = Trial(tmp_path, few, method)
    hurt = faults.hurt(trial, role, signal.SIGKILL, 8)
    faults.check(hurt, role)
    faults.resume(trial)
    assert trial.resumed_after() in faults.newest_shared(hurt.steps)
    difference = trial.difference(reference[method])
    assert difference == 0 if method == "orth" else 0 < difference < TOLERANCE
    assert trial.debits() == 2  # without a bound both, and each attempt counts


def test_a_checkpoint_that_one_side_lacks_is_not_continued(
    reference: dict[str, Trial], tmp_path: Path, few: Path
) -> None:
    """The auditor has lost its newest: both go back to the one before it."""
    trial = Trial(tmp_path, few)
    faults.hurt(trial, "developer", signal.SIGKILL, 10)
    (run,) = (trial.run / "auditor" / "checkpoints").iterdir()
    lost = max(run.glob("*.pt"))
    lost.unlink()
    faults.resume(trial)
    assert 0 < trial.resumed_after() < int(lost.stem[-9:])
    assert trial.difference(reference["orth"]) == 0


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
        assert trial.debits() == EPOCHS
        assert [line["step"] for line in trial.disclosed()] == [STEPS // EPOCHS * index for index in range(EPOCHS)]
    shared = STEPS // EPOCHS * made  # from here on the noise of another moment
    assert copy.rows()[: shared + 1] == whole.rows()[: shared + 1]
    assert (copy.difference(whole) == 0) == (made == EPOCHS)


@pytest.mark.parametrize("role", ROLES)
def test_a_party_dies_between_two_moments(tmp_path: Path, few: Path, role: str) -> None:
    trial = Trial(tmp_path, few, "orth", "moment", ("--set", "privacy.refresh=epoch"))
    hurt = faults.hurt(trial, role, signal.SIGKILL, 9)
    faults.check(hurt, role)
    faults.resume(trial)
    assert trial.debits() == EPOCHS
    assert trial.resumed_after() in faults.newest_shared(hurt.steps)


def test_steps_of_checkpoints(tmp_path: Path) -> None:
    for step in (3, 6, 9):
        checkpoint.save(tmp_path, step, {"run": "this", "step": step})
    assert checkpoint.steps(tmp_path, "this") == (9, 6)
    (tmp_path / "step-000000009.pt").write_bytes(b"damaged")
    assert checkpoint.steps(tmp_path, "this") == (6,)
    checkpoint.discard_after(tmp_path, 6)
    assert [file.name for file in tmp_path.iterdir()] == ["step-000000006.pt"]
