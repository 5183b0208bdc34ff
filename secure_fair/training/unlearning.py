"""UNL: a LoRA that predicts the attribute is subtracted from the backbone before the task's own LoRA is trained.

Task arithmetic (Ilharco et al. 2023) on LoRA, as in arXiv 2503.05684. Who trains the sensitive LoRA, and on what, is
the setting: the auditor on images of its own, or the developer on its own images with soft attributes from a release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from secure_fair.data.folders import Progress, no_progress
from secure_fair.data.images import ImageSet, batches
from secure_fair.errors import RunError, SettingsError
from secure_fair.fairness.terms import Context, FairnessTerm, NoTerm
from secure_fair.model.classifier import build_classifier
from secure_fair.training import device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from secure_fair.data.own import OwnImages
    from secure_fair.model.lora import Factors
    from secure_fair.settings import Settings

SEED_OFFSET = 1_000_003  # the sensitive LoRA's start is not the developer's own


def train_sensitive(
    settings: Settings,
    images: ImageSet,
    attributes: Sequence[Tensor],
    progress: Progress = no_progress,
) -> Factors:
    """Train a LoRA on the frozen backbone to predict each attribute [N, K] (one-hot or soft) by its own softmax.

    Uses the sections [model], [lora] and [training]; returns the factors by peft's names, float32 on the CPU. In a
    deployment the auditor's `training.seed` is its own secret: it gives the factors' start. Raises RunError when the
    loss is not finite.
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
    optimiser = torch.optim.AdamW(
        model.trainable().values(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    done, total = 0, options.epochs * -(-len(images) // options.batch_size)
    for epoch in range(options.epochs):
        for batch in batches(images, options.batch_size, epoch=epoch, seed=options.seed, workers=settings.data.workers):
            with device.autocast(settings, chosen):
                logits = model(batch.images.to(chosen))  # [n, sum K]
            wanted = targets[batch.positions].to(chosen)
            loss = sum(
                (
                    functional.cross_entropy(z.float(), t)
                    for z, t in zip(logits.split(groups, dim=1), wanted.split(groups, dim=1), strict=True)
                ),
                start=torch.zeros((), device=chosen),
            )
            if not torch.isfinite(loss):
                raise RunError("the sensitive LoRA's loss is not finite; lower training.learning_rate")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            done += 1
            progress(done, total)
    return model.factors()


def of_own(settings: Settings, own: OwnImages, progress: Progress = no_progress) -> Factors:
    """The auditor's sensitive LoRA, from images of its own."""
    tables = [torch.from_numpy(own.table.one_hot(column, own.images.ids)) for column in own.table.codes]
    return train_sensitive(settings, own.images, tables, progress)


def plain_unlearning(context: Context) -> FairnessTerm:
    """UNL: changes the model of `context` and adds nothing to the loss.

    With images of the auditor's own the sensitive LoRA is trained on them, else on the training images with the
    attributes in `context`, which may be soft.
    """
    model, settings = context.model, context.settings
    if model is None:
        raise SettingsError("method `unl` changes a model; it cannot be used as a loss on representations alone")
    if model.unlearned:
        return Unlearned()  # a resumed run comes here again
    if settings.privacy.refresh == "epoch":
        raise SettingsError('method `unl` subtracts once, before training; write privacy.refresh = "once"')
    if context.own is not None:
        factors = of_own(settings, context.own)
    elif context.images is not None:
        factors = train_sensitive(settings, context.images, context.attributes)
    else:
        raise SettingsError("method `unl` needs training images")
    model.subtract(factors, context.weight)
    return Unlearned()


class Unlearned(NoTerm):
    """What training after a subtraction adds to the loss: nothing."""

    name = "unl"


def _distribution(table: Tensor) -> Tensor:
    """Rows [N, K] as probabilities: soft attributes of a private release may lie outside of [0, 1]."""
    clipped = table.float().clamp(0, 1)
    return (clipped + 1e-6) / (clipped + 1e-6).sum(dim=1, keepdim=True)
