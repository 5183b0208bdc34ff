"""One seed of the sweep: its own faces, one private release of each kind, and one training of each arm on them."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

from benchmarks.frontier import releases
from benchmarks.sweep.grid import Arm, Sweep
from parties.features import Features
from parties.soft_attributes import SoftTable, predict, reused_term
from secure_fair import settings
from secure_fair.cli.demo import CORRELATION, OVERLAP
from secure_fair.data.drawn import drawn
from secure_fair.data.faces import FaceSettings
from secure_fair.data.prepare import PrepareSettings
from secure_fair.fairness import methods
from secure_fair.fairness.finite import finite
from secure_fair.report.experiment import METRICS
from secure_fair.settings import Settings, toml
from secure_fair.training.baseline import run_plaintext
from secure_fair.training.loop import train
from secure_fair.training.run_folder import read_table
from secure_fair.training.setup import developer_side
from secure_fair.training.summary import commit, group_metrics

TASK, ATTRIBUTE = "Smiling", "Male"
SHARES = (0.5, 0.2, 0.3)  # more validation than usual: it is what values are chosen by
AUDITOR_IMAGES = 0.25  # for UNL and ORTH-ADAPTER; all arms have the same training images


class Seed:
    """`number` seeds the faces, the split, the model and the order of the images; what is drawn already is kept."""

    def __init__(self, sweep: Sweep, number: int, work: Path) -> None:
        self._number, self._base = number, sweep.base
        self._folder = work / f"faces-{sweep.images}-seed-{number}"
        self._released = functools.cache(self._release)
        prepared = self._folder / "prepared"
        self._overrides = {
            "data.root": str(prepared / "developer"),
            "attributes.file": str(prepared / "auditor" / "attributes.csv"),
            "attributes.columns": [ATTRIBUTE],
            "training.seed": number,
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        side = sweep.base["data.image_size"]
        faces = FaceSettings(
            count=sweep.images,
            seed=number,
            task=TASK,
            attribute=ATTRIBUTE,
            correlation=CORRELATION,
            balanced_test=True,
            overlap=OVERLAP,
            size=(side, side),
            shares=SHARES,
        )
        drawn(self._folder, faces, PrepareSettings(TASK, (ATTRIBUTE,), auditor_images=AUDITOR_IMAGES, seed=number))

    def train(self, arm: Arm) -> dict[str, Any]:
        """Train once: metrics of the validation and of the test split."""
        own = self.settings(arm)
        run = self._folder / "run"
        shutil.rmtree(run, ignore_errors=True)  # of an interrupted training
        if arm.release is None:
            run_plaintext(own, arm.method, own.attributes.file, run, _silent)
        else:
            self._train_soft(own, arm, run)
        assert own.attributes.file is not None  # noqa: S101 (named above)
        table = read_table(own.attributes.file, (ATTRIBUTE,))
        file = run / "developer" / "predictions.csv"
        found = {split: group_metrics(file, table, ATTRIBUTE, split) for split in ("val", "test")}
        shutil.rmtree(run)
        kept = {split: {name: values[name] for name in METRICS} for split, values in found.items()}
        return {**finite(kept), "commit": commit()}

    def settings(self, arm: Arm) -> Settings:
        """Of this arm's training."""
        own = {**self._base, **self._overrides, **({arm.setting: arm.value} if arm.setting else {})}
        return settings.load(None, tuple(f"{key}={toml(value)}" for key, value in own.items()))

    def _train_soft(self, own: Settings, arm: Arm, run: Path) -> None:
        """As `secure-fair simulate --reuse`: every method and weight on the same release."""
        method = methods.get(arm.method)
        model, splits = developer_side(own)
        weight = method.weight(own, arm.release)
        assert arm.release is not None  # noqa: S101
        term = reused_term(own, method, weight, self._released(arm.release), model, splits.train)
        train(model, term, weight, splits, own, run / "developer", _silent)

    def _release(self, release: str) -> SoftTable:
        """What the developer makes of one release at the settings' epsilon (see benchmarks.frontier.releases)."""
        own = self.settings(Arm("erm"))
        assert own.attributes.file is not None  # noqa: S101
        model, splits = developer_side(own)
        u = Features(own, model, splits, lambda *_: None).vectors(with_current=False)
        onehot = read_table(own.attributes.file, (ATTRIBUTE,)).one_hot(ATTRIBUTE, splits.train.ids)
        labels, classes = splits.train.labels.numpy(), len(splits.train.classes)
        found = releases.predictor(own, release, own.privacy.epsilon, u["train"], labels, classes, onehot)
        return predict(found, u, splits, (onehot.shape[1],), own.fairness.criterion == "odds")


def _silent(_done: int, _total: int) -> None:
    pass
