"""The developer's processes as its code sees them: one, unless `torchrun` has started several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from secure_fair.data.images import batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch.optim import Optimizer

    from secure_fair.data.images import Batch, ImageSet
    from secure_fair.fairness.methods import Method
    from secure_fair.model.classifier import FairClassifier
    from secure_fair.settings import Settings


@dataclass(frozen=True)
class Walk:
    """A walk over a split in batches: of an epoch, with backward passes, or in order; frozen: with LoRA off."""

    batch_size: int
    epoch: int | None = None
    start_step: int = 0
    frozen: bool = False


@dataclass(frozen=True)
class Exchange:
    """Seconds of training steps in which the processes exchanged, waiting for slower ones included.

    gather: representations and their gradient; reduce: the adapter's gradients, and the adapter.
    """

    processes: int = 1
    gather_seconds: float = 0.0
    reduce_seconds: float = 0.0


class Processes:
    """One process, which has nothing to exchange; and what `torchrun.Leader` does otherwise."""

    def check(self, method: Method) -> None:
        """Raise SettingsError for a method that needs a single process."""

    def narrow(self) -> None:
        """Raise SettingsError where other processes would go on with records that this one leaves out."""

    def batches(self, _model: FairClassifier, images: ImageSet, settings: Settings, walk: Walk) -> Iterator[Batch]:
        """The batches of a walk, with the images of this process's share only; the other processes walk along."""
        return walked(images, settings, walk, 0, 1)

    def gathered(self, h: Tensor, _n: int) -> Tensor:
        """The representations [n, d] of a whole batch, in the graph of this process's share `h`."""
        return h

    def step(self, optimiser: Optimizer) -> None:
        """Update the parameters, after a backward pass."""
        optimiser.step()

    @property
    def exchange(self) -> Exchange:
        return Exchange()


def walked(images: ImageSet, settings: Settings, walk: Walk, rank: int, ranks: int) -> Iterator[Batch]:
    """The batches of a walk as the process `rank` of so many computes them."""
    return batches(
        images,
        walk.batch_size,
        epoch=walk.epoch,
        seed=settings.training.seed,
        workers=settings.data.workers,
        start_step=walk.start_step,
        share=(rank, ranks),
    )


ALONE = Processes()
