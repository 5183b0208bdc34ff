"""The sensitive LoRA: a LoRA on the frozen backbone, and a head, that predict the attributes from an image."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from secure_fair.data.folders import Progress, no_progress
from secure_fair.data.images import ImageSet, batches
from secure_fair.errors import RunError
from secure_fair.model.classifier import FairClassifier, build_classifier
from secure_fair.training import device, predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from torch import Tensor

    from secure_fair.data.own import OwnImages
    from secure_fair.settings import Settings

SEED_OFFSET = 1_000_003  # the sensitive LoRA's start is not the developer's own


def train_sensitive(
    settings: Settings,
    images: ImageSet,
    attributes: Sequence[Tensor],
    progress: Progress = no_progress,
    persons: Sequence[str] | None = None,
) -> FairClassifier:
    """Train a LoRA on the frozen backbone to predict each attribute [N, K] (one-hot or soft) by its own softmax.

    Uses the sections [model], [lora] and [training]; the model's classes are the categories of all attributes. In a
    deployment the auditor's `training.seed` is its own secret: it gives the factors' start. persons: of each image;
    where given, DP-SGD (secure_fair.training.private). Raises RunError when the loss is not finite.
    """
    options = settings.training
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed + SEED_OFFSET)  # dropout's: a resumed run trains the same LoRA again
    seeded = settings.model_copy(update={"training": options.model_copy(update={"seed": options.seed + SEED_OFFSET})})
    groups = [table.shape[1] for table in attributes]
    targets = torch.cat([_distribution(table) for table in attributes], dim=1)  # [N, sum K]
    model = build_classifier(seeded, sum(groups))
    chosen = device.resolve(options.device)
    model.to(chosen).train()
    forward: Callable[[Tensor], Tensor] = model
    optimiser: torch.optim.Optimizer = torch.optim.AdamW(
        model.trainable().values(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    if private := persons is not None:
        from secure_fair.training.private import protected

        forward, optimiser = protected(model, optimiser, settings)
    records = len(images) if persons is None else len(set(persons))
    done, total = 0, options.epochs * -(-records // options.batch_size)
    walk = functools.partial(batches, seed=options.seed, workers=settings.data.workers, persons=persons)
    for epoch in range(options.epochs):
        for batch in walk(images, options.batch_size, epoch=epoch):
            # Private: gradients of bf16 are too coarse to clip; and Opacus's hooks want an input that has a gradient.
            with contextlib.nullcontext() if private else device.autocast(settings, chosen):
                logits = forward(batch.images.to(chosen).requires_grad_(private))  # [n, sum K]
            wanted = targets[batch.positions].to(chosen)
            loss = sum(
                (
                    functional.cross_entropy(z.float(), t)
                    for z, t in zip(logits.split(groups, dim=1), wanted.split(groups, dim=1), strict=True)
                ),
                start=torch.zeros((), device=chosen),
            )
            # Private: such a gradient is dropped, and an error would tell of the record that has it.
            if not private and not torch.isfinite(loss):
                raise RunError("the sensitive LoRA's loss is not finite; lower training.learning_rate")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            done += 1
            progress(done, total)
    return model


def of_own(settings: Settings, own: OwnImages, progress: Progress = no_progress) -> FairClassifier:
    """The auditor's sensitive LoRA and its head, from images of its own; under DP where the settings say so."""
    tables = [torch.from_numpy(own.table.one_hot(column, own.images.ids)) for column in own.table.codes]
    return train_sensitive(settings, own.images, tables, progress, own.persons if settings.sensitive.private else None)


def soft_attributes(
    settings: Settings, model: FairClassifier, images: ImageSet, groups: Sequence[int]
) -> npt.NDArray[np.float32]:
    """What such a model says of `images`: a softmax over the `groups` of each attribute, [n, sum K].

    Raises RunError where a value is not finite.
    """
    chosen = device.resolve(settings.training.device)
    scores = predictions.predict(model.to(chosen), images, settings, chosen).scores  # one softmax over all of them
    parts = np.split(scores, np.cumsum(groups)[:-1], axis=1)
    with np.errstate(invalid="ignore"):
        soft: npt.NDArray[np.float32] = np.concatenate(
            [part / part.sum(axis=1, keepdims=True) for part in parts], axis=1
        ).astype(np.float32)
    if not np.isfinite(soft).all():
        raise RunError("the sensitive LoRA's predictions are not finite; the auditor trains it again")
    return soft


def _distribution(table: Tensor) -> Tensor:
    """Rows [N, K] as probabilities: soft attributes of a private release may lie outside of [0, 1]."""
    clipped = table.float().clamp(0, 1)
    return (clipped + 1e-6) / (clipped + 1e-6).sum(dim=1, keepdim=True)
