"""What an attack starts from (the developer's images, task labels and frozen backbone), and the form of its result."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from secure_fair.data.attributes import AttributeTable
from secure_fair.data.labels import LabelTable, read_labels
from secure_fair.errors import RunError, SettingsError
from secure_fair.leakage.matched_filter import Bounds
from secure_fair.sections import TrainingSettings
from secure_fair.settings import Settings, parse

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BATCH = 256
RECOGNISED = 5  # people of each group (of a task class, for "odds") whom the developer recognises


@dataclass(frozen=True)
class Guess:
    """What one attack says of the people inside the data: per attribute scores [n, K], or the reason why it cannot.

    scored: the people [n] whom the attack is judged by; all of them by default. outside: what the same attack says of
    people outside the data.
    """

    attack: str
    scores: list[Floats] | None = None
    reason: str | None = None
    scored: npt.NDArray[np.bool_] | None = None
    outside: list[Floats] | None = None


@dataclass(frozen=True)
class Recovery:
    """What the strongest attack on a release gives: per attribute, scores [n, K] of people inside and outside the data.

    bound: None where nothing bounds it.
    """

    attack: str
    inside: list[Floats]
    outside: list[Floats]
    bound: Bounds | None
    others: list[Guess]


def first_of_each(groups: Integers, count: int) -> npt.NDArray[np.bool_]:
    """Mark the first `count` members of each group; ids are in random order."""
    marked = np.zeros(len(groups), dtype=bool)
    for group in np.unique(groups):
        marked[np.flatnonzero(groups == group)[:count]] = True
    return marked


def settings_of(run: Path) -> Settings:
    """The settings in RUN/summary.json. Raises RunError when it is missing or of another version."""
    file = run / "summary.json"
    try:
        config = json.loads(file.read_text())["config"]
    except OSError:
        raise RunError(f"{file}: missing, so the run is not complete; resume it or start it again") from None
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{file}: not a summary with `config`; start the run again") from None
    try:
        return parse(Settings, config, f"{file}, config")
    except SettingsError as error:
        raise RunError(f"{error}; the run is of another version, start it again") from None


def reused_by(run: Path) -> str | None:
    """The run whose release RUN was trained on, by its summary.json; None where that names none, or is not there."""
    try:
        privacy = json.loads((run / "summary.json").read_text())["privacy"]
        return str(privacy["reused"]) if "reused" in privacy else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class People:
    """The training and test people of a run. Positions are those of the agreed order: all ids, sorted.

    truth [n, A] are the attribute codes: they score the attacks, name recovered groups, and stand for the people whom
    the developer recognises; categories: K of each attribute.
    """

    settings: Settings
    labels: LabelTable
    truth: Integers
    categories: tuple[int, ...]
    persons: tuple[str, ...]

    @staticmethod
    def of(settings: Settings, table: AttributeTable, columns: tuple[str, ...]) -> People:
        """Raises SettingsError without a developer's folder, DataError when it and the table list different ids."""
        if settings.data.root is None:
            raise SettingsError("data.root is missing; it names the developer's prepared folder")
        labels = read_labels(settings.data.root)
        rows = table.rows(labels.ids)
        codes, categories = [], []
        for column in columns:
            codes.append(table.codes[column][rows])
            categories.append(len(table.categories[column]))
        return People(
            settings, labels, np.stack(codes, axis=1), tuple(categories), tuple(table.persons[row] for row in rows)
        )

    def of_split(self, split: str) -> Integers:
        """Positions of a split's people, in the order of their ids."""
        return np.flatnonzero(self.labels.splits == split)

    @property
    def within_classes(self) -> bool:
        return self.settings.fairness.criterion == "odds"

    def features(self, split: str) -> Floats:
        """Pooled features [n, d] of a split's images from the frozen backbone."""
        settings = self.settings
        training = settings.training.model_dump(include={"device", "precision", "seed"})
        kept = Settings(data=settings.data, model=settings.model, training=TrainingSettings(**training))
        return _frozen_features(kept.model_dump_json(), split).astype(np.float64)


@functools.lru_cache(maxsize=2)  # the two splits, for the runs of a comparison
def _frozen_features(config: str, split: str) -> npt.NDArray[np.float32]:
    """[n, d], a function of images, backbone and precision alone."""
    import torch

    from secure_fair.data.images import batches
    from secure_fair.training import device
    from secure_fair.training.setup import developer_side

    settings = Settings.model_validate_json(config)
    model, splits = developer_side(settings)
    images = {"train": splits.train, "test": splits.test}[split]
    chosen = device.resolve(settings.training.device)
    model.to(chosen).eval()
    blocks = []
    for batch in batches(images, _BATCH, epoch=None, seed=0, workers=settings.data.workers):
        with device.autocast(settings, chosen), torch.inference_mode():
            blocks.append(model.frozen_features(batch.images.to(chosen)).float().cpu().numpy())
    return np.concatenate(blocks)
