"""Rank 0 and the others of a developer in several processes.

Rank 0 does what a single process does: it alone talks to auditor and dealer, holds optimiser and fairness term,
decides, and writes. The others compute their share of representations and of the backward pass. A training step:

    all         forward pass over an equal share of the batch
    gather      h [n, d] to rank 0, which computes the loss, head and fairness term, of the whole batch
    scatter     dL/dh [n, d], to each rank its rows, for its backward pass
    reduce      the sum of the adapter's gradients to rank 0, whose optimiser makes the step
    broadcast   the adapter to all

Not DistributedDataParallel, which averages the gradients of losses of each rank's own: a fairness term is no mean over
records, so there is one loss. The sum of its gradients is that of one process, however the batch is shared out. What
DDP is there for, to reduce while the backward pass goes on, gains nothing on an adapter of a megabyte.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from secure_fair.errors import RunError, SettingsError
from secure_fair.training.processes import Exchange, Processes, Walk, walked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor
    from torch.optim import Optimizer

    from secure_fair.data.images import Batch, ImageSet
    from secure_fair.fairness.methods import Method
    from secure_fair.model.classifier import FairClassifier, Snapshot
    from secure_fair.settings import Settings

WALK, FORWARD, BACKWARD, END = range(4)  # what rank 0 orders; END: of a walk, and at last of all
SPLITS = ("train", "val", "test")
IN_ORDER = -1  # where an epoch's number would be


class Leader(Processes):
    """Rank 0 of several."""

    def __init__(self, chosen: torch.device) -> None:
        self._device, self._size = chosen, distributed.get_world_size()
        self._gather_seconds = self._reduce_seconds = 0.0

    def check(self, method: Method) -> None:
        if method.own_images:
            raise SettingsError(f"method `{method.name}` needs a second LoRA, made by one process; leave torchrun out")

    def narrow(self) -> None:
        raise SettingsError('with attributes.alignment = "psi" one process leaves records out; leave torchrun out')

    def batches(self, model: FairClassifier, images: ImageSet, settings: Settings, walk: Walk) -> Iterator[Batch]:
        self._adapter = adapter(model)
        epoch = IN_ORDER if walk.epoch is None else walk.epoch
        with exchanging():
            order(WALK, SPLITS.index(images.split), walk.batch_size, epoch, walk.start_step, walk.frozen)
            broadcast(self._adapter)
        for batch in walked(images, settings, walk, 0, self._size):
            with exchanging():
                order(FORWARD)
            yield batch
        with exchanging():
            order(END)

    def gathered(self, h: Tensor, n: int) -> Tensor:
        whole: Tensor = _Gathered.apply(h, n, self)
        return whole

    def gather(self, h: Tensor, n: int) -> Tensor:
        """[n, d] from the equal shares; behind the end, rows are repetitions."""
        began = self._now()
        parts = [torch.empty_like(h) for _ in range(self._size)]
        with exchanging():
            distributed.gather(h.contiguous(), parts)
        if h.requires_grad:
            self._gather_seconds += self._now() - began
        return torch.cat(parts)[:n]

    def scatter(self, gradient: Tensor) -> Tensor:
        """Our rows of a gradient [n, d]; those of repetitions are zero."""
        began = self._now()
        rows = -(-len(gradient) // self._size)
        padded = functional.pad(gradient, (0, 0, 0, rows * self._size - len(gradient)))
        own = torch.empty_like(padded[:rows])
        with exchanging():
            order(BACKWARD)
            distributed.scatter(own, list(padded.split(rows)))
        self._gather_seconds += self._now() - began
        return own

    def step(self, optimiser: Optimizer) -> None:
        began = self._now()
        with exchanging():
            sum_gradients(self._adapter)
        self._reduce_seconds += self._now() - began
        optimiser.step()
        began = self._now()
        with exchanging():
            broadcast(self._adapter)
        self._reduce_seconds += self._now() - began

    @property
    def exchange(self) -> Exchange:
        return Exchange(self._size, self._gather_seconds, self._reduce_seconds)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, n: int, leader: Leader) -> Tensor:
        ctx.leader = leader
        return leader.gather(h, n)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        return ctx.leader.scatter(outputs[0]), None, None


def order(*numbers: int) -> list[int]:
    """Rank 0 says what follows, and what it is about; the others are told."""
    order = torch.zeros(6, dtype=torch.int64)
    order[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
    distributed.broadcast(order, 0)
    return [int(number) for number in order]


def adapter(model: FairClassifier | Snapshot) -> list[Tensor]:
    """What is trained by all; the head is rank 0's alone."""
    return [parameter for name, parameter in model.trainable().items() if ".lora_" in name]


def broadcast(parameters: Sequence[Tensor]) -> None:
    """Give all ranks the parameters of rank 0."""
    flat = parameters_to_vector(parameters).detach()
    distributed.broadcast(flat, 0)
    if distributed.get_rank() != 0:
        vector_to_parameters(flat, parameters)


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Give rank 0 the sum of the gradients of all; those of the others are of no further use."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = parameters_to_vector(gradients)
    distributed.reduce(flat, 0)
    vector_to_parameters(flat, gradients)


@contextmanager
def exchanging() -> Iterator[None]:
    """Raise RunError where another process is gone."""
    try:
        yield
    except RuntimeError as error:  # of gloo's and NCCL's: a connection has ended, or nothing came in time
        own = f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"
        raise RunError(f"{own}: another process ended, or did not go on; its own message says why") from error
