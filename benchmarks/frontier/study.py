"""Trains every arm of the grid for every seed, once: what is finished is not done again.

    WORK/trainings.jsonl         a line for each finished training
    WORK/faces-.../              the faces of a seed and the two parties' folders
    WORK/DIGEST/seed-0/          ERM's predictions and the run under way
DIGEST stands for all that a training depends on apart from arm, weight and seed: trainings that differ never mix.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from benchmarks.frontier.grid import UNAWARE, Grid, Training
from benchmarks.frontier.trainings import ATTRIBUTE, TASK, Progress, Seed, weight
from secure_fair import settings
from secure_fair.cli.demo import CORRELATION, OVERLAP, SETTINGS
from secure_fair.errors import SettingsError
from secure_fair.fairness.finite import finite
from secure_fair.training.summary import commit

Row = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A grid, overrides of the demo's settings, and the folder for what is finished and under way."""

    grid: Grid
    overrides: tuple[str, ...]
    work: Path

    def run(self, progress: Progress) -> list[Row]:
        """Do what is missing; return the rows of the whole grid, one for each training. Raises SettingsError."""
        if self._settings().privacy.refresh != "once":
            raise SettingsError('privacy.refresh: only "once" here, where an arm has one release')
        log = _Log(self.work / "trainings.jsonl", self.digest)
        chosen = self._settings()
        arms = self.grid.arms()
        wanted = [Training(arm, weight(chosen, arm), number) for number in range(self.grid.seeds) for arm in arms]
        seed: Seed | None = None
        for training in wanted:
            progress("trainings", sum(other.name in log.rows for other in wanted), len(wanted))
            folder = self.work / self.digest / f"seed-{training.seed}"
            kept = training.arm != UNAWARE or (folder / f"{UNAWARE.name}.csv").exists()
            if training.name not in log.rows or not kept:
                if seed is None or seed.number != training.seed:
                    seed = self._seed(training.seed, folder, progress)
                # Of each training: what is finished is kept, so one study may be the work of several commits.
                log.add(training.name, {**seed.train(training), "commit": commit()})
        progress("trainings", len(wanted), len(wanted))
        return [
            {**asdict(training.arm), "weight": training.weight, "seed": training.seed, **log.rows[training.name]}
            for training in wanted
        ]

    def describe(self) -> dict[str, Any]:
        """What a reader needs beside the numbers."""
        chosen = self._settings()
        shown = {"model", "lora", "training", "fairness", "adversary", "privacy"}
        return {
            "task": TASK,
            "attribute": ATTRIBUTE,
            "correlation_in_training": CORRELATION,
            "overlap_of_the_task": OVERLAP,
            "images_per_seed": self.grid.images,
            "image_size": chosen.data.image_size,
            "settings": chosen.model_dump(mode="json", include=shown),
        }

    @functools.cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits."""
        weights = files("secure_fair") / "assets" / "demo_vit.safetensors"
        facts = self.describe()
        facts["settings"]["fairness"].pop("weight")
        facts["weights"] = hashlib.sha256(weights.read_bytes() if weights.is_file() else b"").hexdigest()
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    def _settings(self, *own: str) -> settings.Settings:
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / "settings.toml").write_text(SETTINGS)
        return settings.load(self.work / "settings.toml", (*self.overrides, *own))

    def _seed(self, number: int, folder: Path, progress: Progress) -> Seed:
        data = Path(f"faces-{self.grid.images}-{CORRELATION}-{OVERLAP}-seed-{number}")
        own = self._settings(
            f"training.seed={number}",
            f"data.root={data / 'prepared' / 'developer'}",
            f"attributes.file={data / 'prepared' / 'auditor' / 'attributes.csv'}",
        )
        return Seed(own, self.work / data, folder, self.grid.images, progress)


class _Log:
    """The finished trainings of one digest: each line reaches the disk before the next training starts."""

    def __init__(self, file: Path, digest: str) -> None:
        self._file, self._digest = file, digest
        self.rows: dict[str, Row] = {}
        text = file.read_text() if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # stopped while writing
            file.write_text(whole)
        for line in whole.splitlines():
            entry = json.loads(line)
            if entry["digest"] == digest:
                self.rows[entry["training"]] = entry["row"]

    def add(self, training: str, row: Row) -> None:
        self.rows[training] = finite(row)
        line = json.dumps({"digest": self._digest, "training": training, "row": self.rows[training]})
        with self._file.open("a") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())
