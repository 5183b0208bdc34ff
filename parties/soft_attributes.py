"""Soft attributes in place of true ones: what the developer makes of a private release, and trains with.

What it computes from a release costs no further privacy, so training itself needs no auditor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from parties.arrays import save_arrays
from parties.features import Floats
from parties.moments import SOFT_FILE, soft_arrays
from secure_fair.data.images import ImageSet
from secure_fair.errors import RunError
from secure_fair.fairness import methods
from secure_fair.fairness.terms import Context, FairnessTerm
from secure_fair.model.classifier import FairClassifier
from secure_fair.releases import ridge
from secure_fair.settings import Settings
from secure_fair.training.loop import Splits


@dataclass
class SoftTable:
    """Soft attributes of every record: what the developer knows after a release, and what attacks start from."""

    ids: dict[str, tuple[str, ...]]  # by split
    rows: dict[str, Floats]  # [n, sum of K], by split
    groups: tuple[int, ...]
    index: int = 0  # of the release that it comes from

    def save(self, folder: Path, release: str, columns: tuple[str, ...]) -> None:
        """Keep it, with the release that it comes from and the attributes that it is about."""
        save_arrays(
            folder / SOFT_FILE,
            ids=np.concatenate([np.array(ids) for ids in self.ids.values()]),
            split=np.concatenate([np.full(len(ids), split) for split, ids in self.ids.items()]),
            soft=np.concatenate(list(self.rows.values())),
            groups=np.array(self.groups),
            index=np.array(self.index),
            release=np.array(release),
            columns=np.array(columns),
        )

    @staticmethod
    def load(folder: Path, splits: Splits, release: str, columns: tuple[str, ...]) -> SoftTable:
        """From an earlier run of the same release, columns and records. Raises RunError."""
        found = soft_arrays(folder, release, columns)
        ids, split, soft = found["ids"], found["split"], found["soft"]
        groups = tuple(int(k) for k in found["groups"])
        wanted = {"train": splits.train.ids, "val": splits.val.ids, "test": splits.test.ids}
        if any(tuple(ids[split == name]) != own for name, own in wanted.items()):
            raise RunError(f"{folder / SOFT_FILE}: made for other records; run the release again")
        return SoftTable(wanted, {name: soft[split == name] for name in wanted}, groups, int(found["index"]))


class SoftTerm:
    """The plaintext term with soft attributes; a new table may replace the old one at the start of an epoch."""

    def __init__(
        self, settings: Settings, method: methods.Method, weight: float, model: FairClassifier, images: ImageSet
    ) -> None:
        self.name = method.name
        self._weight, self._images = weight, images
        steps_per_epoch = math.ceil(len(images) / settings.training.batch_size)
        self._settings, self._method, self._model, self._steps = settings, method, model, steps_per_epoch
        self._step = 0
        self._inner: FairnessTerm | None = None
        self._table = torch.empty(0)
        self._groups: tuple[int, ...] = ()
        self._arrived: SoftTable | None = None

    def take(self, table: SoftTable) -> None:
        """Start from a table that arrived before; a checkpoint may hold the one before it, until its epoch begins."""
        self._arrived = table
        self.use(table.rows["train"], table.groups)

    def use(self, soft: Floats, groups: tuple[int, ...]) -> None:
        """Take a table of the training records [N, sum of K]; what the term has learned is kept."""
        self._table, self._groups = torch.from_numpy(soft), groups
        state = self._inner.state() if self._inner is not None else None
        attributes = self._table.split(list(groups), dim=1)
        model = self._model
        context = Context(self._settings, attributes, model.width, model.classes, model, self._weight, self._images)
        self._inner = methods.factory(self._method.plain)(context)
        if state is not None:
            self._inner.restore(state)

    def refresh(self, epoch: int) -> None:
        """Called before the first step of an epoch."""
        if self._arrived is not None and epoch == self._arrived.index:
            self.use(self._arrived.rows["train"], self._arrived.groups)

    def prepare(self, labels: torch.Tensor, positions: torch.Tensor, /) -> None:
        pass

    def begin(self, h: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor, /) -> None:
        if self._step % self._steps == 0:
            self.refresh(self._step // self._steps)
        self._step += 1
        assert self._inner is not None  # noqa: S101 (a table is given before training)
        self._inner.begin(h, labels, positions)

    def finish(self) -> torch.Tensor:
        assert self._inner is not None  # noqa: S101
        return self._inner.finish()

    def state(self) -> dict[str, torch.Tensor]:
        assert self._inner is not None  # noqa: S101
        return {
            "soft": self._table,
            "step": torch.tensor(self._step),
            "groups": torch.tensor(self._groups),
        } | self._inner.state()

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self._step = int(state["step"])
        self.use(state["soft"].numpy(), tuple(int(k) for k in state["groups"]))
        assert self._inner is not None  # noqa: S101
        self._inner.restore({name: value for name, value in state.items() if name not in ("soft", "step", "groups")})

    def close(self) -> None:
        pass


def reused_term(
    settings: Settings,
    method: methods.Method,
    weight: float,
    table: SoftTable,
    model: FairClassifier,
    images: ImageSet,
) -> SoftTerm:
    """A term on soft attributes of the training `images` that are there already: needs no auditor."""
    term = SoftTerm(settings, method, weight, model, images)
    term.take(table)
    return term


def predict(
    predictor: ridge.SoftAttributes,
    u: dict[str, Floats],
    splits: Splits,
    groups: tuple[int, ...],
    within_classes: bool,
    index: int = 0,
) -> SoftTable:
    """Soft attributes of every split; the predictor is the same for people in the data and outside."""
    images = {"train": splits.train, "val": splits.val, "test": splits.test}
    rows = {
        name: predictor.predict(own, images[name].labels.numpy() if within_classes else None) for name, own in u.items()
    }
    return SoftTable({name: image_set.ids for name, image_set in images.items()}, rows, groups, index)
