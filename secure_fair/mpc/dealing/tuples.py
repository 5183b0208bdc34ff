"""CrypTen's standard tuples, dealt by our dealer, so that any CrypTen operation runs on our transport.

Each tuple is (inputs drawn from both parties' streams; one derived value): the auditor's share of the derived value
comes from its stream too, the developer's is the dealer's correction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch

from secure_fair.errors import ProtocolError
from secure_fair.mpc.dealing.correlations import logical_shift
from secure_fair.mpc.dealing.plan import MAX_STEP_ELEMENTS
from secure_fair.mpc.engine.randomness import RingGenerator

BILINEAR = ("mul", "matmul", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d")
KINDS = ("additive", "square", "binary", "wraps", "bit")


@dataclass(frozen=True)
class TupleSpec:
    """What is asked for: kind, sizes of the drawn inputs, and for `additive` the bilinear operation."""

    kind: str
    sizes: tuple[tuple[int, ...], ...]
    operation: str = "mul"
    options: tuple[tuple[str, Any], ...] = ()

    def encode(self) -> bytes:
        return json.dumps([self.kind, self.sizes, self.operation, self.options]).encode()

    @staticmethod
    def decode(payload: bytes) -> TupleSpec:
        try:
            kind, sizes, operation, options = json.loads(payload)
            spec = TupleSpec(
                str(kind),
                tuple(tuple(int(extent) for extent in size) for size in sizes),
                str(operation),
                tuple((str(key), tuple(v) if isinstance(v, list) else v) for key, v in options),
            )
        except (ValueError, TypeError):
            raise ProtocolError("malformed tuple request; update both parties to one version") from None
        total = sum(torch.Size(size).numel() for size in spec.sizes)
        inputs = 2 if kind in ("additive", "binary") else 1
        if kind not in KINDS or operation not in BILINEAR or len(sizes) != inputs or total > MAX_STEP_ELEMENTS:
            raise ProtocolError("a tuple request is out of range")
        return spec

    def draw(self, generator: RingGenerator) -> tuple[torch.Tensor, ...]:
        """One party's inputs."""
        if self.kind == "bit":
            return (generator.bits(self.sizes[0], 1),)
        return tuple(generator.ring(size) for size in self.sizes)

    def derived_size(self) -> torch.Size:
        """Size of the derived value, computed without data."""
        empty = [torch.empty(size, device="meta") for size in self.sizes]
        if self.kind == "additive":
            return torch.Size(getattr(torch, self.operation)(*empty, **dict(self.options)).shape)
        return torch.broadcast_shapes(*self.sizes)


def deal_tuple(payload: bytes, developer: RingGenerator, auditor: RingGenerator) -> torch.Tensor:
    """The developer's share of the derived value, flat int64."""
    spec = TupleSpec.decode(payload)
    ours, theirs = spec.draw(developer), spec.draw(auditor)
    if spec.kind in ("binary", "bit"):
        inputs = [x ^ y for x, y in zip(ours, theirs, strict=True)]
    else:
        inputs = [x + y for x, y in zip(ours, theirs, strict=True)]
    try:
        share = auditor.ring(spec.derived_size())
        if spec.kind == "additive":
            value = getattr(torch, spec.operation)(*inputs, **dict(spec.options))
        elif spec.kind == "square":
            value = inputs[0] * inputs[0]
        elif spec.kind == "binary":
            return ((inputs[0] & inputs[1]) ^ share).reshape(-1)
        elif spec.kind == "wraps":
            value = signed_wraps(ours[0], theirs[0])
        else:
            value = inputs[0]
    except RuntimeError:
        raise ProtocolError("a tuple request's shapes do not fit its operation") from None
    return (value - share).reshape(-1)


def signed_wraps(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """How often left + right left the signed 64-bit range: +1 above, -1 below, else 0."""
    total = left + right
    crossed = logical_shift((left ^ total) & (right ^ total), 63)
    return torch.where(left < 0, -crossed, crossed)
