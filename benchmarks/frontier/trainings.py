"""One seed: its own faces, and one training of each arm on them."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.frontier import measures, releases
from benchmarks.frontier.grid import METHOD, UNAWARE, Arm, Training
from parties.features import Features
from parties.soft_attributes import predict, reused_term
from secure_fair.cli.demo import CORRELATION, OVERLAP
from secure_fair.data.drawn import drawn
from secure_fair.data.faces import FaceSettings
from secure_fair.data.prepare import PrepareSettings
from secure_fair.fairness import methods
from secure_fair.fairness.terms import Context, FairnessTerm
from secure_fair.model.classifier import FairClassifier, build_classifier
from secure_fair.releases.moment import Floats
from secure_fair.settings import Settings
from secure_fair.training.loop import train
from secure_fair.training.run_folder import read_table
from secure_fair.training.setup import developer_side

TASK, ATTRIBUTE = "Smiling", "Male"
Progress = Callable[[str, int, int], None]


class Seed:
    """Both parties' data of one seed, read once for all arms. `settings` names the prepared folder within `data`."""

    def __init__(self, settings: Settings, data: Path, folder: Path, images: int, progress: Progress) -> None:
        self.number = settings.training.seed
        self._settings, self._folder, self._progress = settings, folder, progress
        self._draw(data, images)
        _, self._splits = developer_side(settings)
        assert settings.attributes.file is not None  # noqa: S101 (the demo's settings name it)
        self._table = read_table(settings.attributes.file, (ATTRIBUTE,))
        self._features = functools.cache(self._vectors)

    def train(self, training: Training) -> dict[str, Any]:
        """Release, train and measure once: what is measured. ERM's predictions are kept for the others."""
        settings, arm = self._settings, training.arm
        model = build_classifier(settings, len(self._splits.train.classes))
        method = methods.get(arm.method)
        leaked: dict[str, float] = {}
        if arm.release == "none":
            onehot = torch.from_numpy(self._table.one_hot(ATTRIBUTE, self._splits.train.ids))
            term: FairnessTerm = methods.factory(method.plain)(Context(settings, [onehot], model.width, model.classes))
        else:
            term, leaked = self._soft(arm, method, model)
        run = self._folder / training.name
        shutil.rmtree(run, ignore_errors=True)  # of an interrupted training, whose noise is gone
        steps = functools.partial(self._progress, training.name)
        result = train(model, term, training.weight, self._splits, settings, run, steps)
        fair = measures.held_out(run / "predictions.csv")
        if arm == UNAWARE:
            (run / "predictions.csv").replace(self.unaware)
        unaware = measures.held_out(self.unaware)
        shutil.rmtree(run)
        return {
            "metrics": measures.quality(fair, self._table, ATTRIBUTE),
            "leakage": measures.leakage(fair, unaware, self._table, ATTRIBUTE) | leaked,
            "steps": result.steps,
            "train_seconds": result.train_seconds,
        }

    @property
    def unaware(self) -> Path:
        """ERM's predictions: what leakage is measured against."""
        return self._folder / f"{UNAWARE.name}.csv"

    def _soft(self, arm: Arm, method: methods.Method, model: FairClassifier) -> tuple[FairnessTerm, dict[str, float]]:
        """The term on soft attributes that this arm's release gives, and what its predictor leaks."""
        splits, settings = self._splits, self._settings
        u = self._features(arm.rank)
        images = {"train": splits.train, "val": splits.val, "test": splits.test}
        labels = {name: image_set.labels.numpy() for name, image_set in images.items()}
        onehots = {name: self._table.one_hot(ATTRIBUTE, image_set.ids) for name, image_set in images.items()}
        groups = (onehots["train"].shape[1],)
        found = releases.predictor(
            settings, arm.release, arm.epsilon, u["train"], labels["train"], len(splits.train.classes), onehots["train"]
        )
        table = predict(found, u, splits, groups, settings.fairness.criterion == "odds")
        members = {name: onehot.argmax(axis=1) for name, onehot in onehots.items()}
        return reused_term(settings, method, 0.0, table, model, splits.train), measures.predictor_leakage(
            found, u, labels, members
        )

    def _vectors(self, rank: int) -> dict[str, Floats]:
        privacy = self._settings.privacy.model_copy(update={"rank": rank})
        settings = self._settings.model_copy(update={"privacy": privacy})
        model = build_classifier(settings, len(self._splits.train.classes))
        return Features(settings, model, self._splits, self._progress).vectors(with_current=False)

    def _draw(self, data: Path, images: int) -> None:
        """Faces in CelebA's layout and the parties' folders; what is there already is kept."""
        drawn(
            data,
            FaceSettings(count=images, seed=self.number, correlation=CORRELATION, overlap=OVERLAP, balanced_test=True),
            PrepareSettings(TASK, (ATTRIBUTE,), seed=self.number),
            functools.partial(self._progress, f"drawing faces, seed {self.number}"),
            functools.partial(self._progress, f"splitting, seed {self.number}"),
        )


def weight(settings: Settings, arm: Arm) -> float:
    """Of the fairness term: `fairness.weight` is about METHOD, the other references have the default of their own."""
    fairness = settings.fairness if arm.method == METHOD else settings.fairness.model_copy(update={"weight": None})
    release = None if arm.release == "none" else arm.release
    return methods.get(arm.method).weight(settings.model_copy(update={"fairness": fairness}), release)
