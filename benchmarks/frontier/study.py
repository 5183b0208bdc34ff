"""Trains every arm of the grid for every seed, once: what is finished is not done again.

    WORK/trainings.jsonl         a line for each finished training
    WORK/faces-.../              the faces of a seed and the two parties' folders
    WORK/DIGEST/seed-0/          ERM's predictions and the run under way
DIGEST stands for all that a training depends on apart from arm and seed, so that trainings that differ never mix.
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

from benchmarks.frontier.grid import UNAWARE, Grid
from benchmarks.frontier.trainings import ATTRIBUTE, TASK, Progress, Seed
from secure_fair import settings
from secure_fair.cli.demo import CORRELATION, OVERLAP, SETTINGS
from secure_fair.errors import SettingsError
from secure_fair.fairness.methods import METHODS
from secure_fair.fairness.metrics import finite

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
        arms = self.grid.arms()
        log = _Log(self.work / "trainings.jsonl", self.digest)
        wanted = [(arm, number) for number in range(self.grid.seeds) for arm in arms]
        for number in range(self.grid.seeds):
            folder = self.work / self.digest / f"seed-{number}"
            seed: Seed | None = None
            for arm in arms:
                progress("trainings", sum((a.name, n) in log.rows for a, n in wanted), len(wanted))
                kept = arm != UNAWARE or (folder / f"{arm.name}.csv").exists()
                if (arm.name, number) not in log.rows or not kept:
                    seed = seed or self._seed(number, folder, progress)
                    log.add(arm.name, number, seed.train(arm))
        progress("trainings", len(wanted), len(wanted))
        return [{**asdict(arm), "seed": number, **log.rows[arm.name, number]} for arm, number in wanted]

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
        facts = {
            **self.describe(),
            "weights": hashlib.sha256(weights.read_bytes() if weights.is_file() else b"").hexdigest(),
            "defaults": {name: dict(method.default_weight) for name, method in METHODS.items()},
        }
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
        self.rows: dict[tuple[str, int], Row] = {}
        text = file.read_text() if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # stopped while writing
            file.write_text(whole)
        for line in whole.splitlines():
            entry = json.loads(line)
            if entry["digest"] == digest:
                self.rows[entry["arm"], entry["seed"]] = entry["row"]

    def add(self, arm: str, seed: int, row: Row) -> None:
        self.rows[arm, seed] = finite(row)
        line = json.dumps({"digest": self._digest, "arm": arm, "seed": seed, "row": self.rows[arm, seed]})
        with self._file.open("a") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())
