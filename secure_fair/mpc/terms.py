"""The secure twins of the plaintext fairness terms: same value, same gradient, attributes never seen.

The developer's side is a FairnessTerm that the training loop calls; the auditor's is an AuditorProgram that the
auditor's process calls once a step. Both build the step's shapes from public numbers only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from secure_fair.fairness import objectives
from secure_fair.fairness.terms import AdversaryView, FairnessTerm, released_gradient
from secure_fair.mpc.dealing.plan import StepProgram
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import RingGenerator
from secure_fair.mpc.engine.sharing import FRACTION_BITS, decode, encode, from_share
from secure_fair.mpc.protocols import adversary, orthogonality
from secure_fair.mpc.protocols.adversary import AdversaryShape
from secure_fair.mpc.protocols.orthogonality import OrthogonalityShape
from secure_fair.settings import Settings


@dataclass(frozen=True)
class PublicShape:
    """What both parties know of a run: width d, task classes C, and the number of groups of each attribute."""

    width: int
    classes: int
    groups: tuple[int, ...]

    @property
    def columns(self) -> int:
        """K: columns of the joined one-hot table."""
        return sum(self.groups)

    @property
    def logits(self) -> int:
        """J: one logit for two groups, one-vs-rest for more."""
        return sum(1 if k == 2 else k for k in self.groups)


class Announce(Protocol):
    """Tells the auditor which records the coming step is about: positions [n] in the agreed order."""

    def __call__(self, positions: torch.Tensor) -> None: ...


class SecureTerm(FairnessTerm, Protocol):
    """The developer's side of one method."""

    def rerandomise(self, common: RingGenerator) -> None:
        """Add what `common` draws to our shares; the auditor subtracts the same."""


class AuditorProgram(Protocol):
    """The auditor's side of one method."""

    def step(self, party: Party, onehot: torch.Tensor) -> None:
        """Take part in one step; `onehot` int64 [n, K], rows in the order announced."""

    def state(self) -> dict[str, torch.Tensor]: ...

    def restore(self, state: dict[str, torch.Tensor]) -> None: ...

    def rerandomise(self, common: RingGenerator) -> None:
        """Subtract what `common` draws from our shares."""


def orthogonality_shape(settings: Settings, public: PublicShape, n: int) -> OrthogonalityShape:
    classes = public.classes if settings.fairness.criterion == "odds" else 0
    return OrthogonalityShape(n, public.width + 1, public.columns, classes)


def adversary_view(settings: Settings, public: PublicShape) -> AdversaryView:
    return AdversaryView.of(settings, public.width, public.classes)


def adversary_shape(settings: Settings, public: PublicShape, n: int, *, entropy: bool = False) -> AdversaryShape:
    options, view = settings.adversary, adversary_view(settings, public)
    return AdversaryShape(
        n, view.features, public.logits, options.learning_rate, options.weight_decay, view.biases, entropy
    )


class SecureOrth:
    """ORTH with the auditor's attributes secret-shared; opens G to us (release `gradient`)."""

    name = "orth"

    def __init__(self, settings: Settings, public: PublicShape, party: Party, announce: Announce) -> None:
        self._settings, self._public, self._party, self._announce = settings, public, party, announce
        self._within_classes = settings.fairness.criterion == "odds"
        self._step: orthogonality.DeveloperStep | None = None

    def prepare(self, labels: torch.Tensor, positions: torch.Tensor, /) -> None:
        classes = None
        if self._within_classes:
            classes = torch.nn.functional.one_hot(labels.cpu().long(), self._public.classes)
        self._announce(positions)
        shape = orthogonality_shape(self._settings, self._public, len(positions))
        self._step = orthogonality.DeveloperStep(self._party, shape, classes)

    def begin(self, h: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor, /) -> None:
        if self._step is None:
            self.prepare(labels, positions)
        assert self._step is not None  # noqa: S101 (that made it)
        self._labels = labels if self._within_classes else None
        self._centred = objectives.centre(objectives.normalise(h.float()), self._labels)
        self._step.send(encode(objectives.with_bias(self._centred)))

    def finish(self) -> torch.Tensor:
        assert self._step is not None  # noqa: S101 (`begin` made it)
        step, self._step = self._step, None
        sums = decode(step.finish(), FRACTION_BITS).to(self._centred)
        attributes = len(self._public.groups)
        value, gradient = objectives.orth_from_sums(self._centred, sums, self._labels, attributes)
        return released_gradient(self._centred, gradient, value)

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        pass

    def rerandomise(self, common: RingGenerator) -> None:
        pass

    def close(self) -> None:
        pass


class SecureAdversary:
    """ADV with secret-shared targets and secret-shared adversary; opens the representation's gradient to us."""

    name = "adv"
    entropy = False

    def __init__(self, settings: Settings, public: PublicShape, party: Party, announce: Announce) -> None:
        self._settings, self._public, self._party, self._announce = settings, public, party, announce
        self._view = adversary_view(settings, public)
        # The start is public (a seed), so the developer's share is zero; what is learned from attributes is shared.
        rows = self._view.features + self._view.biases
        self._w = from_share(torch.zeros(rows, public.logits, dtype=torch.int64))
        self._step: adversary.DeveloperStep | None = None

    def prepare(self, _labels: torch.Tensor, positions: torch.Tensor, /) -> None:
        self._announce(positions)
        self._shape = adversary_shape(self._settings, self._public, len(positions), entropy=self.entropy)
        self._step = adversary.DeveloperStep(self._party, self._shape, self._w)

    def begin(self, h: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor, /) -> None:
        if self._step is None:
            self.prepare(labels, positions)
        assert self._step is not None  # noqa: S101 (that made it)
        self._x = self._view.of_batch(h)
        self._step.send(encode(self._view.with_bias(self._x, labels)))

    def finish(self) -> torch.Tensor:
        assert self._step is not None  # noqa: S101 (`begin` made it)
        step, self._step = self._step, None
        opened, self._w = step.finish()
        # What was opened carries eta / n; the objective wants the rows themselves.
        sums = decode(opened, self._shape.gradient_bits) * (self._shape.n / self._shape.rate)
        value, gradient = self._objective(sums.to(self._x))
        return released_gradient(self._x, gradient, value)

    def _objective(self, sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return objectives.adversary_reversed(sums)

    def state(self) -> dict[str, torch.Tensor]:
        return {"w share": self._w.share}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self._w = from_share(state["w share"])

    def rerandomise(self, common: RingGenerator) -> None:
        self._w = from_share(self._w.share + common.ring(self._w.share.shape))

    def close(self) -> None:
        pass


class SecureEntropy(SecureAdversary):
    """ENT: what is opened, z p (1 - p) w^T, gives the adversary's direction away."""

    name = "ent"
    entropy = True

    def _objective(self, sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return objectives.entropy_descent(sums)


class AuditorOrth:
    """The auditor's side of `SecureOrth`."""

    def __init__(self, settings: Settings, public: PublicShape) -> None:
        self._settings, self._public = settings, public

    def step(self, party: Party, onehot: torch.Tensor) -> None:
        orthogonality.auditor_step(party, orthogonality_shape(self._settings, self._public, len(onehot)), onehot)

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        pass

    def rerandomise(self, common: RingGenerator) -> None:
        pass


class AuditorAdversary:
    """The auditor's side of `SecureAdversary`; its share starts as the public first weights."""

    entropy = False

    def __init__(self, settings: Settings, public: PublicShape) -> None:
        self._settings, self._public = settings, public
        start = adversary_view(settings, public).start(public.logits)
        self._w = from_share(encode(start, adversary.WEIGHT_BITS))

    def step(self, party: Party, onehot: torch.Tensor) -> None:
        targets = [objectives.adversary_targets(part) for part in onehot.split(list(self._public.groups), dim=1)]
        shape = adversary_shape(self._settings, self._public, len(onehot), entropy=self.entropy)
        self._w = adversary.auditor_step(party, shape, torch.cat(targets, dim=1), self._w)

    def state(self) -> dict[str, torch.Tensor]:
        return {"w share": self._w.share}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self._w = from_share(state["w share"])

    def rerandomise(self, common: RingGenerator) -> None:
        self._w = from_share(self._w.share - common.ring(self._w.share.shape))


class AuditorEntropy(AuditorAdversary):
    """The auditor's side of `SecureEntropy`."""

    entropy = True


@dataclass(frozen=True)
class SecureMethod:
    """Both sides of a method under MPC, and what a step of n records needs from the dealer."""

    developer: Callable[[Settings, PublicShape, Party, Announce], SecureTerm]
    auditor: Callable[[Settings, PublicShape], AuditorProgram]
    program: Callable[[Settings, PublicShape, int], StepProgram]
    least: Callable[[int, int, int], int]  # bytes that a step cannot do without, by n, d, K

    def floor_bytes(self, public: PublicShape, n: int) -> int:
        """Least bytes of a step of n records, both ways together (docs/protocols.md, section 4)."""
        return self.least(n, public.width, public.columns)


def _least_orth(n: int, d: int, k: int) -> int:
    """A masked copy of H, a gradient, the attributes and a moment, 4 bytes a number."""
    return 4 * (2 * n * d + n * k + d * k)


def _least_adversary(n: int, d: int, k: int) -> int:
    """A masked copy of H and the attributes at 8 bytes a number, a gradient at 4."""
    return 8 * (n * d + n * k) + 4 * n * d


def secure_orth() -> SecureMethod:
    """ORTH, release `gradient`."""
    return SecureMethod(SecureOrth, AuditorOrth, lambda s, p, n: orthogonality_shape(s, p, n).program(), _least_orth)


def secure_adversary() -> SecureMethod:
    """ADV, release `gradient`."""
    return SecureMethod(
        SecureAdversary, AuditorAdversary, lambda s, p, n: adversary_shape(s, p, n).program(), _least_adversary
    )


def secure_entropy() -> SecureMethod:
    """ENT, release `gradient`."""
    return SecureMethod(
        SecureEntropy,
        AuditorEntropy,
        lambda s, p, n: adversary_shape(s, p, n, entropy=True).program(),
        _least_adversary,
    )
