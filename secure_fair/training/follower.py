"""A rank other than 0 of a developer in several processes: computes what it is told to, and decides nothing."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import distributed

from secure_fair.model.classifier import Snapshot, represented
from secure_fair.training import device
from secure_fair.training.processes import Walk, walked
from secure_fair.training.ranks import (
    BACKWARD,
    END,
    FORWARD,
    IN_ORDER,
    SPLITS,
    WALK,
    adapter,
    broadcast,
    exchanging,
    order,
    sum_gradients,
)
from secure_fair.training.setup import developer_side

if TYPE_CHECKING:
    from torch import Tensor

    from secure_fair.data.images import ImageSet
    from secure_fair.settings import Settings


class Follower:
    """Serves rank 0 until the end. Raises RunError when another process ended or stalled."""

    def __init__(self, settings: Settings, chosen: torch.device) -> None:
        self._settings, self._device = settings, chosen
        self._rank, self._size = distributed.get_rank(), distributed.get_world_size()
        if settings.training.threads:
            torch.set_num_threads(settings.training.threads)
        self._model, splits = developer_side(settings)
        self._model.to(chosen)
        self._images = {images.split: images for images in (splits.train, splits.val, splits.test)}
        self._waiting: deque[tuple[Tensor, list[Tensor]]] = deque()  # representations, and the adapter they are of

    def serve(self) -> None:
        self._until(END)

    def _until(self, awaited: int) -> None:
        """Do as ordered until this order comes.

        A walk can come within another one: a private release may want all representations before a batch's gradient.
        """
        while True:
            with exchanging():
                what, split, batch_size, epoch, start_step, frozen = order()
            if what == awaited:
                return
            if what == WALK:
                walk = Walk(batch_size, None if epoch == IN_ORDER else epoch, start_step, bool(frozen))
                self._walk(self._images[SPLITS[split]], walk)
            elif what == BACKWARD:
                self._backward()

    def _walk(self, images: ImageSet, walk: Walk) -> None:
        with exchanging():
            broadcast(adapter(self._model))
        for step, batch in enumerate(walked(images, self._settings, walk, self._rank, self._size), walk.start_step):
            self._until(FORWARD)
            pixels = device.move(batch.images, self._device)
            h = self._represent(pixels, walk, step)
            with exchanging():
                distributed.gather(h.detach().contiguous())
        self._until(END)

    def _represent(self, pixels: Tensor, walk: Walk, step: int) -> Tensor:
        training = walk.epoch is not None
        self._model.train(training)
        with torch.set_grad_enabled(training), device.autocast(self._settings, self._device):
            if walk.epoch is None:
                return self._model.frozen_features(pixels) if walk.frozen else self._model.represent(pixels)
            # Dropout: other masks than those of rank 0, and the same ones again in a run that is resumed.
            entropy = [self._settings.training.seed, self._rank, walk.epoch, step]
            torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
            model = Snapshot(self._model) if self._settings.training.delayed else self._model
            h = represented(model, pixels, self._settings.training.micro_batch_size)
            self._waiting.append((h, adapter(model)))
            return h

    def _backward(self) -> None:
        """Of the oldest representations that wait for it."""
        h, own = self._waiting.popleft()
        gradient = torch.empty_like(h)
        with exchanging():
            distributed.scatter(gradient)
        h.backward(gradient)
        with exchanging():
            sum_gradients(own)
            broadcast(adapter(self._model))
        for parameter in own:
            parameter.grad = None
