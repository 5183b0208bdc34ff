"""The model that is trained: a frozen backbone with LoRA, and a linear head on its pooled representation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import peft
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from secure_fair.errors import RunError
from secure_fair.model import backbone, head, lora

if TYPE_CHECKING:
    from pathlib import Path

    from secure_fair.sections import LoraSettings
    from secure_fair.settings import Settings

_HEAD = "head."
SUBTRACTED = "subtracted"  # folder of the adapter that UNL took off the backbone


class FairClassifier(nn.Module):
    """Backbone + LoRA -> representation h [n, d] -> head -> logits [n, C].

    Representation and logits are apart, because the fairness term sits between them.
    """

    def __init__(
        self, adapted: peft.PeftModel, classifier_head: nn.Linear, config: dict[str, Any], settings: LoraSettings
    ) -> None:
        super().__init__()
        self.adapted = adapted
        self._lora = settings
        self._subtracted: tuple[lora.Factors, float] | None = None
        self.head = classifier_head
        self.data_config = config

    @property
    def width(self) -> int:
        """d, the width of the representation."""
        return self.head.in_features

    @property
    def classes(self) -> int:
        """C, the number of task classes."""
        return self.head.out_features

    def represent(self, images: Tensor) -> Tensor:
        """[n, 3, S, S] -> h [n, d], LoRA on."""
        h: Tensor = self.adapted(images)
        return h

    @torch.no_grad()
    def frozen_features(self, images: Tensor) -> Tensor:
        """[n, 3, S, S] -> [n, d], LoRA off: a function of the images alone, the same before and after training."""
        with self.adapted.disable_adapter():
            return self.represent(images)

    def logits(self, h: Tensor) -> Tensor:
        """h [n, d] -> [n, C]."""
        z: Tensor = self.head(h)
        return z

    def forward(self, images: Tensor) -> Tensor:
        """[n, 3, S, S] -> logits [n, C]."""
        return self.logits(self.represent(images))

    def trainable(self) -> dict[str, nn.Parameter]:
        """The adapter's and the head's parameters by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def lora_parameters(self) -> dict[str, nn.Parameter]:
        """The adapter's own parameters under the names that `factors` has."""
        return {
            name.removeprefix("adapted.").replace(".default.", "."): parameter
            for name, parameter in self.trainable().items()
            if ".lora_" in name
        }

    def factors(self) -> lora.Factors:
        """Copies of the adapter's factors."""
        return lora.factors(self.adapted)

    def predictor(self) -> lora.Factors:
        """Copies of all that was trained: the adapter's factors, and the head's weights as `head.*`."""
        own = {
            f"{_HEAD}{name}": p.detach().to("cpu", torch.float32).clone() for name, p in self.head.named_parameters()
        }
        return self.factors() | own

    @torch.no_grad()
    def become(self, predictor: lora.Factors) -> None:
        """Take over what `predictor` of a model of the same shape returned."""
        own = self.lora_parameters() | {f"{_HEAD}{name}": p for name, p in self.head.named_parameters()}
        for name, parameter in own.items():
            parameter.copy_(predictor[name])

    @property
    def unlearned(self) -> bool:
        """Whether an adapter has been subtracted."""
        return self._subtracted is not None

    def subtract(self, factors: lora.Factors, weight: float) -> None:
        """Take `weight` times another LoRA's update off the backbone; `save` keeps it. Once for a model."""
        if self.unlearned:
            raise RunError("an adapter has been subtracted from this model already; build a new one")
        lora.subtract(self.adapted, factors, weight, self._lora)
        self._subtracted = factors, weight

    def save(self, folder: Path) -> None:
        """Write `folder`/adapter/ in peft's own format and `folder`/head.safetensors.

        Where an adapter was subtracted from the backbone, also `folder`/subtracted/: merge it before loading the other.
        """
        self.adapted.save_pretrained(folder / "adapter")
        head.save(self.head, folder / "head.safetensors")
        if self._subtracted is not None:
            lora.save_negative(*self._subtracted, folder / "adapter" / "adapter_config.json", folder / SUBTRACTED)


def without_head(predictor: lora.Factors) -> lora.Factors:
    """The adapter's factors alone."""
    return {name: value for name, value in predictor.items() if not name.startswith(_HEAD)}


class Snapshot:
    """The model with its trainable parameters as they are now: its graph outlives an optimiser's step.

    The copies, adapter and head, are small; the backbone is shared.
    """

    def __init__(self, model: FairClassifier) -> None:
        self._model = model
        self._copies = {name: p.detach().clone().requires_grad_() for name, p in model.trainable().items()}

    def trainable(self) -> dict[str, Tensor]:
        """As `FairClassifier.trainable`; gradients arrive here."""
        return self._copies

    def represent(self, images: Tensor) -> Tensor:
        """[n, 3, S, S] -> h [n, d]."""
        h: Tensor = functional_call(self._model.adapted, self._of("adapted."), (images,))
        return h

    def logits(self, h: Tensor) -> Tensor:
        """h [n, d] -> [n, C]."""
        z: Tensor = functional_call(self._model.head, self._of("head."), (h,))
        return z

    def _of(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): p for name, p in self._copies.items() if name.startswith(prefix)}


def represented(model: FairClassifier | Snapshot, images: Tensor, part: int) -> Tensor:
    """h [n, d] of a batch, as `represent`, in parts of `part` images; 0: all at once.

    The activations of parts are not kept: the backward pass computes them again, and holds those of one part only. So
    the fairness term has its large batch where memory has room for a small one.
    """
    if not part or len(images) <= part:
        return model.represent(images)
    return torch.cat([checkpoint(model.represent, piece, use_reentrant=False) for piece in images.split(part)])


def build_classifier(settings: Settings, n_classes: int) -> FairClassifier:
    """A new model; backbone (when random), adapter and head are drawn from `settings.training.seed`."""
    seed = settings.training.seed
    frozen = backbone.build(settings.model, settings.data.image_size, seed)
    config = backbone.data_config(frozen)
    return FairClassifier(
        lora.wrap(frozen, settings.lora, seed), head.build(frozen.num_features, n_classes, seed), config, settings.lora
    )


def load_classifier(settings: Settings, folder: Path) -> FairClassifier:
    """The model that `FairClassifier.save` wrote, for the same backbone."""
    frozen = backbone.build(settings.model, settings.data.image_size, settings.training.seed)
    config = backbone.data_config(frozen)
    if (folder / SUBTRACTED).exists():
        frozen = peft.PeftModel.from_pretrained(frozen, folder / SUBTRACTED).merge_and_unload()
    adapted = peft.PeftModel.from_pretrained(frozen, folder / "adapter")
    return FairClassifier(adapted, head.load(folder / "head.safetensors"), config, settings.lora)
