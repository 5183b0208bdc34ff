"""Fairness terms: what the training loop adds to the task loss.

A term is called three times in a step, so that a secure one can talk to the network during the forward pass and while
the task loss is computed. The loop does not know whether a term reads attributes from memory or asks an auditor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from secure_fair.fairness import objectives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from secure_fair.data.images import ImageSet
    from secure_fair.data.own import OwnImages
    from secure_fair.model.classifier import FairClassifier
    from secure_fair.settings import Settings


@dataclass(frozen=True, repr=False)
class Context:
    """What a plaintext term is built from.

    attributes: per attribute [N, K], one-hot or soft, rows by position of the training ids; width: d; classes: C. What
    follows is for methods that work on the model rather than on its representations: the model itself, the weight, the
    training images, and images of the auditor's own.
    """

    settings: Settings
    attributes: Sequence[Tensor]
    width: int
    classes: int
    model: FairClassifier | None = None
    weight: float = 0.0
    images: ImageSet | None = None
    own: OwnImages | None = None


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


class PlainTerm:
    """What terms without state and channels share."""

    def prepare(self, _labels: Tensor, _positions: Tensor, /) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        pass

    def close(self) -> None:
        pass


class NoTerm(PlainTerm):
    """Fairness-unaware training (ERM): nothing is added."""

    name = "erm"

    def begin(self, h: Tensor, _labels: Tensor, _positions: Tensor, /) -> None:
        self._zero = h.new_zeros(())

    def finish(self) -> Tensor:
        return self._zero


class PlainOrth(PlainTerm):
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


@dataclass(frozen=True)
class AdversaryView:
    """What the adversary sees of a representation; both arms and both parties build it from public numbers.

    classes: task classes whose bias the adversary has one each for ("odds"); 0: one bias ("parity").
    """

    width: int
    classes: int
    hidden: int
    seed: int

    @staticmethod
    def of(settings: Settings, width: int, classes: int) -> AdversaryView:
        within = classes if settings.fairness.criterion == "odds" else 0
        return AdversaryView(width, within, settings.adversary.hidden, settings.training.seed)

    @property
    def features(self) -> int:
        """Columns of x."""
        return self.width + self.hidden

    @property
    def biases(self) -> int:
        """Constant columns behind those of x."""
        return max(self.classes, 1)

    def of_batch(self, h: Tensor) -> Tensor:
        """x [n, features], in the graph of h [n, d]; row norms at most 1."""
        return objectives.hidden_units(objectives.normalise(h.float()), self.hidden, self.seed)

    def with_bias(self, x: Tensor, labels: Tensor) -> Tensor:
        """[x, bias], [n, features + biases]."""
        return objectives.with_bias(x, labels.to(x.device) if self.classes else None, self.biases)

    def start(self, columns: int) -> Tensor:
        """First weights [features + biases, columns]."""
        return objectives.adversary_start(self.features, columns, self.seed, self.biases)


class PlainAdversary(PlainTerm):
    """ADV with the adversary's `targets` [N, J] in memory, rows by position.

    Order inside a step: the representation's gradient is taken at the weights before their update. Weights are float64
    on the CPU: n * d is small, and the secure twin is compared with this one over many steps.
    """

    name = "adv"

    def __init__(self, targets: Tensor, view: AdversaryView, learning_rate: float, weight_decay: float) -> None:
        self._targets, self._view = targets, view
        self._learning_rate, self._weight_decay = learning_rate, weight_decay
        self._w = view.start(targets.shape[1])  # [D, J]

    def begin(self, h: Tensor, labels: Tensor, positions: Tensor, /) -> None:
        self._x = self._view.of_batch(h)
        x1 = self._view.with_bias(self._x.detach().cpu().double(), labels)
        row_sums, weight_sums = objectives.adversary_gradients(x1, self._w, self._targets[positions.cpu()])
        self._sums = self._rows(x1, row_sums)[:, : self._view.features]
        self._w = objectives.adversary_update(self._w, weight_sums, len(x1), self._learning_rate, self._weight_decay)

    def _rows(self, _x1: Tensor, row_sums: Tensor) -> Tensor:
        """The rows [n, D] that the representation's gradient is made of."""
        return row_sums

    def finish(self) -> Tensor:
        value, gradient = objectives.adversary_reversed(self._sums)
        return released_gradient(self._x, gradient, value)

    def state(self) -> dict[str, Tensor]:
        return {"w": self._w}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._w = state["w"]


class PlainEntropy(PlainAdversary):
    """ENT: the adversary of ADV, whose prediction the representation makes uncertain."""

    name = "ent"

    def _rows(self, x1: Tensor, _row_sums: Tensor) -> Tensor:
        return objectives.entropy_gradient(x1, self._w)

    def finish(self) -> Tensor:
        value, gradient = objectives.entropy_descent(self._sums)
        return released_gradient(self._x, gradient, value)


def plain_erm(_context: Context) -> FairnessTerm:
    """ERM: needs no attributes."""
    return NoTerm()


def plain_orth(context: Context) -> FairnessTerm:
    """ORTH in plaintext; the penalties of several attributes add up."""
    return PlainOrth(torch.cat(list(context.attributes), dim=1), context.settings.fairness.criterion)


def plain_adversary(context: Context) -> FairnessTerm:
    """ADV in plaintext; each attribute has columns of the adversary of its own."""
    return PlainAdversary(*_adversary(context))


def plain_entropy(context: Context) -> FairnessTerm:
    """ENT in plaintext."""
    return PlainEntropy(*_adversary(context))


def _adversary(context: Context) -> tuple[Tensor, AdversaryView, float, float]:
    targets = torch.cat([objectives.adversary_targets(onehot) for onehot in context.attributes], dim=1)
    view = AdversaryView.of(context.settings, context.width, context.classes)
    options = context.settings.adversary
    return targets, view, options.learning_rate, options.weight_decay
