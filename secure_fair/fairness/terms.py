"""Fairness terms: what the training loop adds to the task loss.

A term is called three times in a step, so that a secure one can talk to the network during the forward pass and while
the task loss is computed. The loop does not know whether a term reads attributes from memory or asks an auditor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from secure_fair.errors import SettingsError
from secure_fair.fairness import objectives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from secure_fair.settings import Settings


class FairnessTerm(Protocol):
    """The loop's view of a fairness objective."""

    name: str

    def prepare(self, labels: Tensor, positions: Tensor, /) -> None:
        """Before the forward pass: `labels` [n] and `positions` [n], in the agreed order of ids, of the batch.

        A loop of one's own may leave it out; it only saves time.
        """

    def begin(self, h: Tensor, labels: Tensor, positions: Tensor, /) -> None:
        """After the forward pass: `h` [n, d] in the graph; `labels` and `positions` as before."""

    def finish(self) -> Tensor:
        """A scalar whose gradient with respect to `h` is that of the unweighted fairness loss, in mean scale."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold so that training goes on exactly."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""

    def close(self) -> None:
        """Let go of channels and files."""


class _Released(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, _h: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return outputs[0] * gradient, None, None


def released_gradient(h: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
    """A scalar of the chosen `value` whose gradient with respect to `h` is the constant `gradient` (same shape).

    `(h * gradient).sum()` has that gradient too, but layer norm makes its value about zero: its curve says nothing.
    """
    result: Tensor = _Released.apply(h, gradient.detach().to(h), value.detach().to(h))
    return result


class _PlainTerm:
    """What terms without state and channels share."""

    def prepare(self, _labels: Tensor, _positions: Tensor, /) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        pass

    def close(self) -> None:
        pass


class NoTerm(_PlainTerm):
    """Fairness-unaware training (ERM): nothing is added."""

    name = "erm"

    def begin(self, h: Tensor, _labels: Tensor, _positions: Tensor, /) -> None:
        self._zero = h.new_zeros(())

    def finish(self) -> Tensor:
        return self._zero


class PlainOrth(_PlainTerm):
    """ORTH with the attributes `onehot` [N, K] in memory, rows by position."""

    name = "orth"

    def __init__(self, onehot: Tensor, criterion: str) -> None:
        self._onehot = onehot
        self._within_classes = criterion == "odds"

    def begin(self, h: Tensor, labels: Tensor, positions: Tensor, /) -> None:
        attributes = self._onehot[positions.cpu()].to(h.device)
        self._loss = objectives.orth_loss(h.float(), attributes, labels if self._within_classes else None)

    def finish(self) -> Tensor:
        return self._loss


class PlainAdversary(_PlainTerm):
    """ADV with the adversary's `targets` [N, J] in memory, rows by position.

    Order inside a step: the representation's gradient is taken at the weights before their update. Weights are float64
    on the CPU: n * d is small, and the secure twin is compared with this one over many steps.
    """

    name = "adv"

    def __init__(self, targets: Tensor, width: int, learning_rate: float, weight_decay: float, seed: int) -> None:
        check_adversary(learning_rate, weight_decay)
        self._targets = targets
        self._learning_rate, self._weight_decay = learning_rate, weight_decay
        self._w = objectives.adversary_start(width, targets.shape[1], seed)  # [d + 1, J]

    def begin(self, h: Tensor, _labels: Tensor, positions: Tensor, /) -> None:
        self._u = objectives.normalise(h.float())
        u1 = objectives.with_bias(self._u.detach().cpu().double())
        self._sums, weight_sums = objectives.adversary_gradients(u1, self._w, self._targets[positions.cpu()])
        self._w = objectives.adversary_update(self._w, weight_sums, len(u1), self._learning_rate, self._weight_decay)

    def finish(self) -> Tensor:
        value, gradient = objectives.adversary_reversed(self._sums[:, :-1])
        return released_gradient(self._u, gradient, value)

    def state(self) -> dict[str, Tensor]:
        return {"w": self._w}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._w = state["w"]


def check_adversary(learning_rate: float, weight_decay: float) -> None:
    """Refuse steps that overshoot: the bound on ||w|| needs learning_rate * weight_decay <= 1. Raises SettingsError."""
    if learning_rate * weight_decay > 1:
        raise SettingsError(
            f"adversary: learning_rate * weight_decay = {learning_rate * weight_decay:g} is above 1, which voids the "
            "bound on the adversary's weights; lower `adversary.learning_rate`"
        )


def plain_erm(_settings: Settings, _attributes: Sequence[Tensor], _width: int) -> FairnessTerm:
    """ERM: needs no attributes."""
    return NoTerm()


def plain_orth(settings: Settings, attributes: Sequence[Tensor], _width: int) -> FairnessTerm:
    """ORTH in plaintext; the penalties of several attributes add up, each one-hot [N, K] over the training ids."""
    return PlainOrth(torch.cat(list(attributes), dim=1), settings.fairness.criterion)


def plain_adversary(settings: Settings, attributes: Sequence[Tensor], width: int) -> FairnessTerm:
    """ADV in plaintext for representations of `width` d; each attribute has columns of the adversary of its own."""
    targets = torch.cat([objectives.adversary_targets(onehot) for onehot in attributes], dim=1)
    options = settings.adversary
    return PlainAdversary(targets, width, options.learning_rate, options.weight_decay, settings.training.seed)
