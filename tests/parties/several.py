"""A run whose developer is several processes, and what one process comes to."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tests.parties import world
from tests.parties.commands import Command
from tests.parties.world import Deployment

BATCH = 9  # of 28 records: shares of 5 and 4, and a last batch of one record for two processes
EPOCHS = 8  # of 4 steps
LEARNING_RATE = 1e-3

# The sums of one process in another order, so that h differs by some 2^-24, and where it was near to a rounding border
# its fixed-point value by 2^-17. A factor between the processes' gradients would be seen in AdamW's mean of them, and
# not in the parameters. Measured: 1e-6 (ORTH) and 1.8e-5 (ADV, between two like runs of one process as well: their
# truncation differs) of a parameter, 1e-4 and 8e-4 of the largest gradient.
PARAMETER = 0.05 * LEARNING_RATE
GRADIENT = 2e-3
SCORE = 1e-4  # measured: 7e-7 (ORTH) and 1.2e-5 (ADV, whose fixed-point truncation differs from run to run)


@dataclass(frozen=True)
class Trial:
    """A run of three parties, with the developer in so many processes."""

    folder: Path
    data: Path
    identities: Deployment
    method: str
    release: str
    ranks: int = 2

    @property
    def out(self) -> Path:
        return self.folder / "developer"

    def start(self, *more: str, roles: Sequence[str] = world.ROLES, **settings: Any) -> dict[str, Command]:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = world.write_settings(self.folder / "settings.toml", self.data)
        policy = world.write_policy(self.folder / "policy.toml", [self.release], epsilon=1e5)
        own = {
            "dealer": [],
            "auditor": ["--policy", str(policy)],
            "developer": ["--method", self.method, "--release", self.release, *more],
        }
        options = {
            "training__epochs": EPOCHS,
            "training__batch_size": BATCH,
            "training__checkpoint_steps": 3,
            "privacy__epsilon": 1e5,
        }
        place = self.identities.elsewhere()

        def begin(role: str) -> Command:
            arguments = place.party(role, config, self.folder / role, *own[role], **options | settings)
            log = self.folder / f"{role}{'-resumed' if '--resume' in more else ''}.log"
            return Command.start(arguments, log, ranks=self.ranks if role == "developer" else 1)

        return {role: begin(role) for role in roles}

    def finish(self, *more: str, roles: Sequence[str] = world.ROLES, **settings: Any) -> Trial:
        commands = self.start(*more, roles=roles, **settings)
        try:
            for command in commands.values():
                assert command.wait() == 0, command.text
        finally:
            for command in commands.values():
                command.kill()
        return self

    def steps(self) -> int:
        file = self.out / "steps.csv"
        return max(0, len(file.read_text().splitlines()) - 1) if file.exists() else 0

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(max((self.out / "checkpoint").glob("*.pt")), weights_only=True)
        return found

    def scores(self) -> npt.NDArray[np.float64]:
        with (self.out / "predictions.csv").open(newline="") as stream:
            return np.array([float(row["score_yes"]) for row in csv.DictReader(stream)])

    def cost(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "cost.json").read_text())
        return found


def check_equal(one: Trial, other: Trial) -> None:
    """Parameters, gradients and predictions, within what the order of float32 sums does."""
    ours, theirs = one.state(), other.state()
    assert ours["step"] == theirs["step"] > 0
    assert ours["model"].keys() == theirs["model"].keys()
    for name, value in ours["model"].items():
        assert (value - theirs["model"][name]).abs().max() <= PARAMETER, name
    for index, moments in ours["optimiser"]["state"].items():
        expected = theirs["optimiser"]["state"][index]["exp_avg"]
        assert (moments["exp_avg"] - expected).abs().max() <= GRADIENT * expected.abs().max(), index
    assert np.abs(one.scores() - other.scores()).max() <= SCORE


def identical(one: Trial, other: Trial) -> bool:
    ours, theirs = one.state(), other.state()
    return ours["step"] == theirs["step"] and all(
        torch.equal(value, theirs["model"][name]) for name, value in ours["model"].items()
    )


def trial(shared: Path, few: Path, identities: Deployment, method: str, release: str, ranks: int) -> Trial:
    """An undisturbed run, made once."""

    def make(folder: Path) -> None:
        Trial(folder, few, identities, method, release, ranks).finish()

    folder = world.once(shared, f"torchrun-{method}-{release}-{ranks}", make)
    return Trial(folder, few, identities, method, release, ranks)
