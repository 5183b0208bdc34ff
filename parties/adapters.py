"""The developer's side of releases that come from the auditor's sensitive LoRA.

`adapter`: the LoRA itself, received and subtracted (UNL). `adapter-gradient`: in every step the gradient of our LoRA's
overlap with it (ORTH-ADAPTER).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from parties.messages import encode_step
from parties.metering import MeteredTerm
from secure_fair.errors import ProtocolError
from secure_fair.fairness.overlap import check_undelayed, columns
from secure_fair.fairness.terms import FairnessTerm, PlainTerm, released_gradient
from secure_fair.model.lora import Factors, flatten, unflatten
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.overlap import DeveloperStep, OverlapShape
from secure_fair.training.unlearning import Unlearned

if TYPE_CHECKING:
    from parties.developer import Run

DISCLOSED = "sensitive adapter"
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
    """Wait for the auditor's adapter, log it, and take it off the backbone."""
    own = run.model.factors()
    size = _BYTES * sum(value.numel() for value in own.values())
    began = time.perf_counter()
    payload = run.auditor.receive(Kind.OPEN, size=size)  # the auditor trains it now; its heartbeats keep us waiting
    run.meter.add(time.perf_counter() - began, size)
    factors = unpack(payload, own)
    run.log.add(0, DISCLOSED, flatten(factors).numpy(), np.empty(0, dtype=np.int64))
    run.model.subtract(factors, run.weight)
    return Unlearned()


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
        self._run.log.add(self._step, name, value.numpy(), np.empty(0, dtype=np.int64), unit=unit)

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
    check_undelayed(run.settings)
    term = OverlapTerm(run)
    return MeteredTerm(term, run.meter, lambda _n: term.floor_bytes, lambda: None)
