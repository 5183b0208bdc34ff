"""The training loop: one for plaintext and secure runs, which differ in their fairness term only."""

from __future__ import annotations

import csv
import json
import math
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

import torch
from torch.nn import functional

from secure_fair import checkpoint
from secure_fair.data.images import Batch, ImageSet
from secure_fair.errors import RunError
from secure_fair.files import write_text
from secure_fair.model.classifier import Snapshot, represented
from secure_fair.training import device, predictions
from secure_fair.training.processes import ALONE, Exchange, Processes, Walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from secure_fair.fairness.terms import FairnessTerm
    from secure_fair.model.classifier import FairClassifier
    from secure_fair.settings import Settings

CHECKPOINTS = "checkpoint"  # in the developer's folder
STEP_COLUMNS = ("step", "epoch", "task_loss", "fairness_value", "seconds")


@dataclass(frozen=True)
class Splits:
    """The developer's images."""

    train: ImageSet
    val: ImageSet
    test: ImageSet


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training tells: steps, seconds in steps (evaluation and loading apart) and metrics by split."""

    steps: int
    train_seconds: float
    metrics: dict[str, dict[str, float]]
    exchange: Exchange = field(default_factory=Exchange)


def train(
    model: FairClassifier,
    term: FairnessTerm,
    weight: float,
    data: Splits,
    settings: Settings,
    out: Path,
    progress: Callable[[int, int], None],
    *,
    resume: bool = False,
    processes: Processes = ALONE,
) -> TrainingResult:
    """Minimise task loss + `weight` * term with AdamW; write the steps, the model, predictions.csv and metrics.json.

    Deterministic given the seeds, also across an interruption: checkpoints hold adapter, head, optimiser, random state
    and the term's state. With `resume` the newest checkpoint in `out` is continued where there is one. `progress` is
    called with (steps done, steps in all). The term is closed at the end, however it comes. Raises RunError when the
    loss is not finite.
    """
    options = settings.training
    chosen = device.resolve(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    out.mkdir(parents=True, exist_ok=True)
    model.to(chosen)
    with closing(term):
        session = Session(model, term, weight, settings, out, chosen, processes)
        session.fit(data.train, progress, resume=resume)
    model.save(out)
    metrics = predictions.write(model, {"val": data.val, "test": data.test}, settings, out, chosen, processes)
    return TrainingResult(session.step, session.seconds, metrics, processes.exchange)


@dataclass(frozen=True)
class _Forward:
    """A batch whose forward pass is done, by a model that still holds the parameters it was done with."""

    epoch: int
    task_loss: torch.Tensor
    model: FairClassifier | Snapshot


class Session:
    """The state of one training: what a checkpoint holds. `seconds` are those in steps."""

    def __init__(
        self,
        model: FairClassifier,
        term: FairnessTerm,
        weight: float,
        settings: Settings,
        out: Path,
        chosen: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        self.model, self.term, self.weight = model, term, weight
        self.settings, self.out, self.device, self.processes = settings, out, chosen, processes
        self._description = description(settings, term.name, weight)
        options = settings.training
        self.optimiser = torch.optim.AdamW(
            model.trainable().values(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.step, self.seconds = 0, 0.0
        self._delayed = options.delayed
        self._earlier: _Forward | None = None  # with `training.delayed`
        self._class_weights: torch.Tensor | None = None  # [C], with `training.balanced`

    def fit(self, images: ImageSet, progress: Callable[[int, int], None], *, resume: bool) -> None:
        options = self.settings.training
        steps_per_epoch = math.ceil(len(images) / options.batch_size)
        total = options.epochs * steps_per_epoch
        if resume:
            self._restore()
        else:
            checkpoint.discard_after(self.out / CHECKPOINTS, -1)  # of an earlier run in the same folder
        if options.balanced:
            counts = torch.bincount(images.labels, minlength=len(images.classes))
            self._class_weights = (len(images) / len(counts) / counts.clamp(min=1)).to(self.device)
        self.model.train()
        with (self.out / "steps.csv").open("a" if self.step else "w", newline="", buffering=1) as stream:
            if not self.step:
                csv.writer(stream).writerow(STEP_COLUMNS)
            progress(self.step, total)
            for epoch in range(self.step // steps_per_epoch, options.epochs):
                walk = Walk(options.batch_size, epoch, self.step - epoch * steps_per_epoch)
                for batch in self.processes.batches(self.model, images, self.settings, walk):
                    self.advance(batch, epoch, stream)
                    if checkpoint.due(self.seen, options.checkpoint_steps, steps_per_epoch):
                        self.drain(stream)
                        self._save()
                    progress(self.step, total)

    @property
    def seen(self) -> int:
        """Batches whose forward pass is done: the steps, and with `training.delayed` perhaps one more."""
        return self.step + (self._earlier is not None)

    def advance(self, batch: Batch, epoch: int, stream: TextIO) -> None:
        """One step; its row goes to `stream`.

        With `training.delayed`: the forward pass of this batch, and then the step of the batch before. Its fairness
        term has had a backward and a forward pass of time, and so has that of this batch.
        """
        began = time.perf_counter()
        images, labels = device.move(batch.images, self.device), device.move(batch.labels, self.device)
        earlier, model = self._earlier, Snapshot(self.model) if self._delayed else self.model
        if not self._delayed:
            self.term.prepare(labels, batch.positions)
        with device.autocast(self.settings, self.device):
            own = represented(model, images, self.settings.training.micro_batch_size)
            h = self.processes.gathered(own, len(labels))  # [n, d]
        fairness = self.term.finish() if earlier is not None else None
        self.term.begin(h, labels, batch.positions)
        with device.autocast(self.settings, self.device):
            logits = model.logits(h)  # [n, C]
        current = _Forward(epoch, functional.cross_entropy(logits.float(), labels, self._class_weights), model)
        if not self._delayed:
            self._apply(current, self.term.finish(), began, stream)
            return
        self._earlier = current
        if earlier is not None and fairness is not None:
            self._apply(earlier, fairness, began, stream)
        else:
            self.seconds += time.perf_counter() - began

    def drain(self, stream: TextIO) -> None:
        """The step that `training.delayed` still owes: before a checkpoint, which cannot hold a graph."""
        if self._earlier is not None:
            began, earlier, self._earlier = time.perf_counter(), self._earlier, None
            self._apply(earlier, self.term.finish(), began, stream)

    def _apply(self, done: _Forward, fairness: torch.Tensor, began: float, stream: TextIO) -> None:
        """Take the gradient of a batch and move the model; the step is timed since `began`."""
        loss = done.task_loss + self.weight * fairness
        if not math.isfinite(loss.item()):
            raise RunError(
                f"step {self.step + 1}: the loss is not finite (task {done.task_loss.item():g}, "
                f"fairness {fairness.item():g}); lower training.learning_rate or fairness.weight"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if done.model is not self.model:
            for parameter, copy in zip(self.model.trainable().values(), done.model.trainable().values(), strict=True):
                parameter.grad = copy.grad
        self.processes.step(self.optimiser)
        seconds = time.perf_counter() - began
        self.step += 1
        self.seconds += seconds
        csv.writer(stream).writerow(
            (self.step, done.epoch + 1, f"{done.task_loss.item():.7g}", f"{fairness.item():.7g}", f"{seconds:.6f}")
        )

    def _save(self) -> None:
        state = {
            "run": self._description,
            "step": self.step,
            "seconds": self.seconds,
            "model": {name: parameter.detach() for name, parameter in self.model.trainable().items()},
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "term": self.term.state(),
        }
        checkpoint.save(self.out / CHECKPOINTS, self.step, state)

    def _restore(self) -> None:
        state = checkpoint.load(self.out / CHECKPOINTS, self._description)
        if state is None:
            return
        self.step, self.seconds = state["step"], state["seconds"]
        with torch.no_grad():
            for name, parameter in self.model.trainable().items():
                parameter.copy_(state["model"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
        self.term.restore(state["term"])
        _keep_steps(self.out / "steps.csv", self.step)


def description(settings: Settings, method: str, weight: float) -> str:
    """What must be the same for a resumed run to be the same run; addresses and paths may differ.

    With `training.delayed` the steps of checkpoints belong to it: no gradient is late across one.
    """
    sections = settings.model_dump(
        mode="json",
        exclude={
            "network": True,
            "data": {"root", "workers"},
            "attributes": {"file"},
            "training": set() if settings.training.delayed else {"checkpoint_steps"},
        },
    )
    return json.dumps({"term": method, "weight": weight, **sections}, sort_keys=True)


def _keep_steps(file: Path, steps: int) -> None:
    """Drop the rows of steps that came after the checkpoint, so that a resumed run counts each step once."""
    lines = file.read_text().splitlines(keepends=True)
    write_text(file, "".join(lines[: steps + 1]))
