"""The developer's side of the private releases: soft attributes in place of true ones.

`moment`: one secure protocol run before training (or at the start of every epoch); `randomized-response`: none. What
the developer computes from a release costs no further privacy, so training itself needs no auditor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from parties.messages import COUNT_BYTES, decode_count
from parties.moments import SHARE_FILE, SOFT_FILE, moment_plan, releases, save_arrays
from secure_fair.data.images import ImageSet
from secure_fair.errors import RunError
from secure_fair.fairness import methods
from secure_fair.fairness.terms import Context, FairnessTerm
from secure_fair.model.classifier import FairClassifier
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.moment import MomentShape, developer_moment, developer_open, joined
from secure_fair.privacy.accountant import gaussian_cost, split_epsilon
from secure_fair.releases import ridge
from secure_fair.releases.moment import FeatureMap, MomentPlan, quantise, vectors
from secure_fair.releases.randomized_response import debias, variance
from secure_fair.settings import Settings
from secure_fair.training import device
from secure_fair.training.loop import Splits
from secure_fair.training.processes import ALONE, Processes, Walk

if TYPE_CHECKING:
    from parties.developer import Run

_FEATURE_BATCH = 256
Floats = npt.NDArray[np.float32]


class Features:
    """Vectors u of every split, from the backbone with LoRA off and, on request, from the model as it is now."""

    def __init__(
        self,
        settings: Settings,
        model: FairClassifier,
        splits: Splits,
        progress: Callable[[str, int, int], None],
        processes: Processes = ALONE,
    ) -> None:
        self._settings, self._model, self._progress, self._processes = settings, model, progress, processes
        self.splits = {"train": splits.train, "val": splits.val, "test": splits.test}
        self._frozen = {name: self._features(images, name, current=False) for name, images in self.splits.items()}

    def vectors(self, *, with_current: bool) -> dict[str, Floats]:
        """u [n, D] of each split; maps are fitted to the training images and know no attribute."""
        parts = [self._frozen]
        if with_current:
            parts.append({name: self._features(images, name, current=True) for name, images in self.splits.items()})
        seed, rank = self._settings.training.seed, self._settings.privacy.rank
        maps = [FeatureMap.fit(part["train"], rank, seed) for part in parts]
        return {name: vectors(maps, [part[name] for part in parts]) for name in self.splits}

    @torch.no_grad()
    def _features(self, images: ImageSet, split: str, *, current: bool) -> Floats:
        chosen = device.resolve(self._settings.training.device)
        model = self._model.to(chosen)
        training = model.training
        model.eval()
        features = np.empty((len(images), model.width), dtype=np.float32)
        done = 0
        forward = model.represent if current else model.frozen_features
        for batch in self._processes.batches(model, images, self._settings, Walk(_FEATURE_BATCH, frozen=not current)):
            with device.autocast(self._settings, chosen):
                block = self._processes.gathered(forward(batch.images.to(chosen)), len(batch.labels))
            features[done : done + len(block)] = block.float().cpu().numpy()
            done += len(block)
            self._progress(f"features, {split}", done, len(images))
        model.train(training)
        return features


@dataclass
class SoftTable:
    """Soft attributes of every record: what the developer knows after a release, and what attacks start from."""

    ids: dict[str, tuple[str, ...]]  # by split
    rows: dict[str, Floats]  # [n, sum of K], by split
    groups: tuple[int, ...]
    index: int = 0  # of the release that it comes from

    def save(self, folder: Path) -> None:
        save_arrays(
            folder / SOFT_FILE,
            ids=np.concatenate([np.array(ids) for ids in self.ids.values()]),
            split=np.concatenate([np.full(len(ids), split) for split, ids in self.ids.items()]),
            soft=np.concatenate(list(self.rows.values())),
            groups=np.array(self.groups),
            index=np.array(self.index),
        )

    @staticmethod
    def load(folder: Path, splits: Splits) -> SoftTable:
        """From an earlier run on the same records. Raises RunError when there is none, or the records differ."""
        try:
            with np.load(folder / SOFT_FILE, allow_pickle=False) as arrays:
                ids, split = arrays["ids"], arrays["split"]
                soft, groups = arrays["soft"], tuple(int(k) for k in arrays["groups"])
                index = int(arrays["index"])
        except (OSError, KeyError, ValueError):
            raise RunError(
                f"{folder / SOFT_FILE}: no soft attributes to reuse; name a finished run with a private release"
            ) from None
        wanted = {"train": splits.train.ids, "val": splits.val.ids, "test": splits.test.ids}
        if any(tuple(ids[split == name]) != own for name, own in wanted.items()):
            raise RunError(f"{folder / SOFT_FILE}: made for other records; run the release again")
        return SoftTable(wanted, {name: soft[split == name] for name in wanted}, groups, index)


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


class MomentTerm(SoftTerm):
    """Asks for a moment before the first step, and with refresh = "epoch" before every epoch."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.settings, run.method, run.weight, run.model, run.splits.train)
        self._run = run
        self._share_file = run.out / SHARE_FILE
        sent_again = bool(decode_count(run.auditor.receive(Kind.HELLO, size=COUNT_BYTES)))
        self._lost = run.hello.first if sent_again else None
        left = range(run.hello.first + sent_again, run.hello.releases)
        self._source = run.source(joined(self._shape(self._plan(index)) for index in left)) if left else None
        if run.hello.first:
            self.take(SoftTable.load(run.out, run.splits))
        # After the dealer is connected: features of a large data set take longer than it waits for us.
        self._features = run.features()
        if not run.hello.first:
            self.release(0)  # before training: UNL changes the model

    def refresh(self, epoch: int) -> None:
        if epoch < self._run.hello.first:
            super().refresh(epoch)
        elif epoch > 0 and self._settings.privacy.refresh == "epoch":
            self.release(epoch)

    def release(self, index: int) -> None:
        """Run the protocol and build the predictor from the noisy moment."""
        run, privacy, plan = self._run, self._settings.privacy, self._plan(index)
        cost = gaussian_cost(privacy.epsilon, privacy.delta, releases(self._settings))
        u = self._features.vectors(with_current=index > 0)
        within = plan.classes > 1
        labels = run.splits.train.labels.numpy() if within else None
        began = time.perf_counter()
        run.links.where = f"moment {index + 1} of {run.hello.releases}"

        def record(name: str, value: torch.Tensor, _unit: float) -> None:
            epsilon = cost.epsilon(privacy.delta)
            run.log.add(run.steps_per_epoch * index, name, value.numpy(), run.train, unit=plan.unit, epsilon=epsilon)

        shape = self._shape(plan)

        def blocks() -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
            for start in range(0, len(u["train"]), shape.block):
                rows = slice(start, start + shape.block)
                y = torch.nn.functional.one_hot(run.splits.train.labels[rows], plan.classes) if within else None
                yield torch.from_numpy(quantise(u["train"][rows], plan)), y

        party = Party("developer", run.auditor, self._source, record)
        if index == self._lost:
            with np.load(self._share_file, allow_pickle=False) as arrays:
                moment = developer_open(party, torch.from_numpy(arrays["share"]))
        else:
            session = party.source.session

            def keep(share: torch.Tensor) -> None:
                save_arrays(self._share_file, session=np.array(session), index=np.array(index), share=share.numpy())

            moment = developer_moment(party, shape, blocks(), keep)
        run.meter.add(time.perf_counter() - began, shape.floor_bytes)
        persons = run.persons if plan.weighted else None
        predictor = ridge.from_moment(u["train"], labels, moment.numpy(), plan, plan.noise_scale(cost), persons)
        table = predict(predictor, u, run.splits, run.answer.groups, within, index)
        table.save(run.out)
        self._share_file.unlink(missing_ok=True)
        self.use(table.rows["train"], table.groups)

    def _plan(self, index: int) -> MomentPlan:
        hello, answer = self._run.hello, self._run.answer
        return moment_plan(self._settings, answer.groups, hello.classes, hello.features, answer.weighted, index)

    def _shape(self, plan: MomentPlan) -> MomentShape:
        return MomentShape(plan.dimension, plan.columns, plan.classes, self._run.hello.train)


def response_term(run: Run) -> SoftTerm:
    """Flipped attributes, debiased and smoothed by the same ridge step."""
    settings, groups = run.settings, run.answer.groups
    began = time.perf_counter()
    payload = run.auditor.receive(Kind.OPEN, size=len(run.train) * len(groups))
    run.meter.add(time.perf_counter() - began, len(payload))
    answers = np.frombuffer(payload, dtype=np.uint8).reshape(len(groups), -1).astype(np.int64)
    run.log.add(0, "randomized response", answers, run.train, epsilon=settings.privacy.epsilon)
    share = split_epsilon(settings.privacy.epsilon, len(groups))
    rows = [debias(answer, k, share) for answer, k in zip(answers, groups, strict=True)]
    within = settings.fairness.criterion == "odds"
    u = run.features().vectors(with_current=False)
    labels = run.splits.train.labels.numpy() if within else None
    variances = [variance(k, share) for k in groups]
    predictor = ridge.from_responses(u["train"], labels, run.hello.classes if within else 1, rows, variances)
    table = predict(predictor, u, run.splits, groups, within)
    table.save(run.out)
    return reused_term(settings, run.method, run.weight, table, run.model, run.splits.train)


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
