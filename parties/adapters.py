"""The developer's side of the release `adapter`: the auditor's sensitive LoRA, received and subtracted (UNL)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from secure_fair.errors import ProtocolError
from secure_fair.fairness.terms import FairnessTerm
from secure_fair.model.lora import Factors
from secure_fair.mpc.kinds import Kind
from secure_fair.training.unlearning import Unlearned

if TYPE_CHECKING:
    from parties.developer import Run

DISCLOSED = "sensitive adapter"
_BYTES = 4  # float32


def pack(factors: Factors) -> bytes:
    """The factors one after the other in the order of their names, little-endian float32."""
    return b"".join(factors[name].contiguous().numpy().astype("<f4").tobytes() for name in sorted(factors))


def unpack(payload: bytes | bytearray, like: Factors) -> Factors:
    """What `pack` wrote, with the names and shapes of `like`. Raises ProtocolError where a value is not finite."""
    flat = torch.from_numpy(np.frombuffer(payload, dtype="<f4").copy())
    if not torch.isfinite(flat).all():
        raise ProtocolError("the auditor's adapter holds a value that is not finite; the auditor trains it again")
    names = sorted(like)
    parts = flat.split([like[name].numel() for name in names])
    return {name: part.reshape(like[name].shape) for name, part in zip(names, parts, strict=True)}


def adapter_term(run: Run) -> FairnessTerm:
    """Wait for the auditor's adapter, log it, and take it off the backbone."""
    own = run.model.factors()
    size = _BYTES * sum(value.numel() for value in own.values())
    began = time.perf_counter()
    payload = run.auditor.receive(Kind.OPEN, size=size)  # the auditor trains it now; its heartbeats keep us waiting
    run.meter.add(time.perf_counter() - began, size)
    factors = unpack(payload, own)
    flat = torch.cat([factors[name].reshape(-1) for name in sorted(factors)])
    run.log.add(0, DISCLOSED, flat.numpy(), np.empty(0, dtype=np.int64))
    run.model.subtract(factors, run.weight)
    return Unlearned()
