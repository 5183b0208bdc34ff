"""Runs that are hurt at a chosen step: what every process says, how long it takes, and how the run goes on."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from tests.parties import commands, world
from tests.parties.commands import PATIENCE, Command
from tests.parties.world import ROLES

FACES, TRAIN = 40, 28
BATCH, EVERY = 4, 3
EPOCH = -(-TRAIN // BATCH)  # 7 steps; checkpoints after 3, 6, 7, 9, ...
LEARNING_RATE = 1e-3
STALL_SECONDS = 3.0
DEATH_SECONDS = 5.0


# ADV's shares are re-randomised and truncated another way, by less than one unit of 2^-24 of w a step; h is rounded to
# 2^-17 in both runs alike. Adam divides a gradient by its own size: a relative change of 1e-4 of a gradient moves a
# weight by 1e-4 of the learning rate a step, and a gradient near zero by more. Measured: 6e-6 after 21 steps.
TOLERANCE = 0.01 * LEARNING_RATE  # a step


@dataclass(frozen=True)
class Trial:
    """A simulation in its own folder, to be hurt and resumed."""

    folder: Path
    data: Path
    method: str = "orth"
    release: str = "gradient"
    more: tuple[str, ...] = ()
    epochs: int = 5  # the test may come a moment late, and the run must not have ended

    @property
    def total(self) -> int:
        return self.epochs * EPOCH

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def start(self, *, resume: bool = False) -> Command:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = world.write_settings(self.folder / "settings.toml", self.data)
        settings = {
            "training.epochs": self.epochs,
            "training.batch_size": BATCH,
            "training.checkpoint_steps": EVERY,
            "training.learning_rate": LEARNING_RATE,
            "network.timeout_seconds": STALL_SECONDS,
        }
        fixed = ["simulate", "-c", str(config), "--method", self.method, "--release", self.release]
        fixed += ["--out", str(self.run), *(["--resume"] if resume else [])]
        overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        log = self.folder / ("resumed.log" if resume else "hurt.log")
        return Command.start([*fixed, *overrides, *self.more], log)

    def finish(self, *, resume: bool = False) -> None:
        command = self.start(resume=resume)
        try:
            assert command.wait() == 0, command.text
        finally:
            command.kill()

    def rows(self) -> list[list[str]]:
        """steps.csv without the seconds."""
        file = self.run / "developer" / "steps.csv"
        return [line.split(",")[:-1] for line in file.read_text().splitlines()] if file.exists() else []

    def steps(self) -> int:
        return max(0, len(self.rows()) - 1)

    def resumed_after(self) -> int:
        """The step that the resumed run began after, in its first line of progress."""
        (first,) = re.findall(r"^training: (\d+)/", (self.folder / "resumed.log").read_text(), re.MULTILINE)[:1]
        return int(first)

    def process(self, role: str) -> psutil.Process:
        return psutil.Process(int(commands.pid_file(self.run / role).read_text()))

    def model(self) -> dict[str, torch.Tensor]:
        """All that was trained."""
        (adapter,) = (self.run / "developer" / "adapter").glob("*.safetensors")
        files = (self.run / "developer" / "head.safetensors", adapter)
        return {name: value for file in files for name, value in load_file(file).items()}

    def difference(self, other: Trial) -> float:
        """Largest difference of a trained number; 0 for bit-identical."""
        mine, theirs = self.model(), other.model()
        assert mine.keys() == theirs.keys()
        return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)

    def debits(self) -> int:
        """Attempts that the auditor's ledger knows of."""
        from secure_fair.privacy.ledger import Ledger

        with Ledger(self.run / "auditor" / "ledger.sqlite", None) as ledger:
            return len(ledger.releases())

    def disclosed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run / "developer" / "disclosures.jsonl").read_text().splitlines()]


@dataclass(frozen=True)
class Hurt:
    """What happened: steps done, seconds until the last survivor had ended, and what each process said."""

    steps: int
    seconds: float
    said: dict[str, list[str]]
    launcher: str


def hurt(trial: Trial, role: str, number: signal.Signals, step: int, *, resume: bool = False) -> Hurt:
    """Start the run, and send the signal to a party as soon as `step` steps are done; wait for the end of all.

    A party that was stopped is killed when the others have ended; that a launcher does so is tested elsewhere.
    """
    command = trial.start(resume=resume)
    try:
        commands.until(lambda: trial.steps() >= step or not command.process.is_alive())
        processes = {name: trial.process(name) for name in ROLES}
        victim = processes.pop(role)
        victim.send_signal(number)
        began = time.monotonic()
        _, alive = psutil.wait_procs(list(processes.values()), PATIENCE)
        assert not alive, f"still running: {alive}"
        seconds = time.monotonic() - began
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        assert command.wait() == 1, command.text
        _, alive = psutil.wait_procs([victim], 1.0)
        assert not alive, "a party has outlived its launcher"
        said = {name: Command(command.process, trial.run / name / "log.txt").errors for name in ROLES[:2]}
        (last,) = command.errors
        return Hurt(trial.steps(), seconds, {**said, "developer": said_for_developer(last)}, last)
    finally:
        command.kill()


def said_for_developer(error: str) -> list[str]:
    """What the launcher says of it; where it only repeats another party's words, those. Empty: it was killed."""
    cause, *others = error.split("; the ")
    own = [text for text in others if text.startswith("developer: ")]
    return [] if "the developer was killed" in cause else (own or others)[:1]


def reference(folder: Path, data: Path, method: str, epochs: int = 5) -> Trial:
    """An uninterrupted run, made once."""

    def made(partial: Path) -> None:
        Trial(partial, data, method, epochs=epochs).finish()

    return Trial(world.once(folder, f"uninterrupted-{method}-{epochs}", made), data, method, epochs=epochs)


def equals(trial: Trial, uninterrupted: Trial) -> bool:
    """To the bit; for ADV, within what its shares' new randomness does."""
    difference = trial.difference(uninterrupted)
    return difference == 0 if trial.method == "orth" else 0 < difference <= TOLERANCE * trial.total


def newest_shared(steps: int) -> range:
    """Where a run goes on that was hurt after so many steps: one of the two newest checkpoints, or the start."""
    return range(max(0, steps - 2 * EVERY + 1), steps + 1)


def check(hurt: Hurt, role: str, number: signal.Signals) -> None:
    """In time; each survivor names who went away or stalled, and where the run was; the hurt one is silent.

    A survivor may hear of it from another one first, in its words.
    """
    # Ending takes a survivor up to CLOSE_SECONDS a channel after it has noticed.
    assert hurt.seconds < (DEATH_SECONDS if number == signal.SIGKILL else STALL_SECONDS + DEATH_SECONDS), hurt
    for name in ROLES:
        assert len(hurt.said[name]) == (name != role), hurt
        assert all(re.search(rf"{role} .*\((step|moment|\d+ of) .*\d+", text) for text in hurt.said[name]), hurt
    assert f"the {role} was killed by SIGKILL" in hurt.launcher, hurt


def finish_and_copy(trial: Trial, step: int, copy: Path) -> None:
    """Run to the good end; the folder is copied when `step` steps are done, while nobody writes."""
    command = trial.start()
    try:
        commands.until(lambda: trial.steps() >= step or not command.process.is_alive())
        developer = trial.process("developer")
        developer.suspend()
        shutil.copytree(trial.folder, copy)
        developer.resume()
        assert command.wait() == 0, command.text
    finally:
        command.kill()


def resume(trial: Trial) -> None:
    """To the good end."""
    trial.finish(resume=True)
    assert trial.steps() == trial.total
