"""The developer's side of releases that come from the auditor's sensitive LoRA.

`adapter`: the LoRA itself, received and subtracted (UNL). `adapter-gradient`: in every step the gradient of our LoRA's
overlap with it (ORTH-ADAPTER). `predictor`: the LoRA with its head, which gives soft attributes of our own images.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from parties.handshake import MAX_WEIGHTS
from parties.messages import encode_step
from parties.metering import MeteredTerm
from parties.soft_attributes import SoftTable, reused_term
from secure_fair.errors import ProtocolError
from secure_fair.fairness.overlap import columns
from secure_fair.fairness.terms import FairnessTerm, PlainTerm, released_gradient
from secure_fair.model.classifier import build_classifier
from secure_fair.model.lora import Factors, flatten, unflatten
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.overlap import DeveloperStep, OverlapShape
from secure_fair.training.sensitive import soft_attributes
from secure_fair.training.unlearning import Unlearned

if TYPE_CHECKING:
    from parties.run import Run

DISCLOSED, PREDICTOR = "sensitive adapter", "sensitive predictor"
_BYTES = 4  # float32


def pack(factors: Factors) -> bytes:
    """As lora.flatten has them, little-endian float32."""
    return flatten(factors).numpy().astype("<f4").tobytes()


def unpack(payload: bytes | bytearray, like: Factors) -> Factors:
    """What `pack` wrote, with the names and shapes of `like`. Raises ProtocolError where a value is not finite."""
    flat = torch.from_numpy(np.frombuffer(payload, dtype="<f4").copy())
    if not torch.isfinite(flat).all():
        raise ProtocolError("the auditor's adapter holds a value that is not finite; the auditor trains it again")
    return unflatten(flat, like)


def adapter_term(run: Run) -> FairnessTerm:
    """Wait for the auditor's adapter, and take it off the backbone."""
    run.model.subtract(_received(run, run.model.factors(), DISCLOSED), run.weight)
    return Unlearned()


def predictor_term(run: Run) -> FairnessTerm:
    """Wait for the auditor's predictor, and go on with what it says of our own images."""
    settings, groups = run.settings, run.answer.groups
    fits = len(groups) == len(settings.attributes.columns) and min(groups) > 1
    if not fits or sum(groups) * run.model.width > MAX_WEIGHTS:
        raise ProtocolError(f"the auditor's attributes have {groups} groups, which makes no sense; update the auditor")
    model = build_classifier(settings, sum(groups))
    model.become(_received(run, model.predictor(), PREDICTOR))
    splits = {"train": run.splits.train, "val": run.splits.val, "test": run.splits.test}
    rows = {name: soft_attributes(settings, model, images, groups) for name, images in splits.items()}
    table = SoftTable({name: images.ids for name, images in splits.items()}, rows, groups)
    table.save(run.out, run.hello.release, settings.attributes.columns)
    return reused_term(settings, run.method, run.weight, table, run.model, run.splits.train)


def _received(run: Run, like: Factors, name: str) -> Factors:
    """What the auditor has trained, of the shape of `like`; logged."""
    size = _BYTES * sum(value.numel() for value in like.values())
    began = time.perf_counter()
    payload = run.auditor.receive(Kind.OPEN, size=size)  # the auditor trains it now; its heartbeats keep us waiting
    run.meter.add(time.perf_counter() - began, size)
    found = unpack(payload, like)
    epsilon = run.settings.privacy.epsilon if run.settings.sensitive.private else None
    run.log.add(0, name, flatten(found).numpy(), np.empty(0, dtype=np.int64), epsilon=epsilon)
    run.end()
    return found


class OverlapTerm(PlainTerm):
    """ORTH-ADAPTER with the auditor's LoRA secret-shared; opens half the gradient of every layer's factors to us."""

    name = "orth-adapter"

    def __init__(self, run: Run) -> None:
        own = self._factors = columns(run.model.lora_parameters(), run.settings.fairness.factors)
        self._shape = OverlapShape.of(own, run.settings.lora.rank)
        steps = run.hello.epochs * run.steps_per_epoch
        self._run, self._step = run, -1
        self._party = Party("developer", run.auditor, run.source(Plan(((self._shape.program(), steps),))), self._record)

    def _record(self, name: str, value: torch.Tensor, unit: float) -> None:
        epsilon = self._run.settings.privacy.epsilon if self._run.settings.sensitive.private else None
        self._run.log.add(self._step, name, value.numpy(), np.empty(0, dtype=np.int64), unit=unit, epsilon=epsilon)

    @property
    def floor_bytes(self) -> int:
        return self._shape.floor_bytes

    def begin(self, _h: torch.Tensor, _labels: torch.Tensor, _positions: torch.Tensor, /) -> None:
        self._step += 1
        self._run.auditor.send(Kind.STEP, *encode_step(self._step, np.empty(0, dtype=np.int64)))
        self._waiting = DeveloperStep(self._party, self._shape, self._factors)

    def finish(self) -> torch.Tensor:
        halves = [half.to(own) for half, own in zip(self._waiting.finish(), self._factors, strict=True)]
        flat = torch.cat([own.reshape(-1) for own in self._factors])  # in the graph of the factors
        half = torch.cat([part.reshape(-1) for part in halves])
        return released_gradient(flat, 2 * half, (flat.detach() * half).sum())


def overlap_term(run: Run) -> FairnessTerm:
    """The metered term of a run."""
    term = OverlapTerm(run)
    return MeteredTerm(term, run.meter, lambda _n: term.floor_bytes, lambda: None)
