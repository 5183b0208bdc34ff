"""CrypTen's standard tuples, dealt by our dealer, so that any CrypTen operation runs on our transport.

Each tuple is (inputs drawn from both parties' streams; one derived value): the auditor's share of the derived value
comes from its stream too, the developer's is the dealer's correction.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import torch

from secure_fair.errors import ProtocolError
from secure_fair.mpc.dealing.correlations import logical_shift
from secure_fair.mpc.dealing.plan import MAX_STEP_ELEMENTS, whole
from secure_fair.mpc.engine.randomness import RingGenerator

BILINEAR = ("mul", "matmul", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d")
OPTIONS = {"padding": 0, "output_padding": 0, "stride": 1, "dilation": 1, "groups": 1}  # the least value of each
MAX_OPTION = 2**16
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
        """Read what came over the wire; anything malformed or oversized is a ProtocolError."""
        try:
            kind, sizes, operation, options = json.loads(payload)
            spec = TupleSpec(
                kind,
                tuple(tuple(whole(extent) for extent in size) for size in sizes),
                operation,
                tuple((key, _option(key, value)) for key, value in options),
            )
            spec.validate()
        except (ValueError, TypeError, ArithmeticError, IndexError, RuntimeError) as error:
            raise ProtocolError(f"a tuple request is malformed or out of range ({type(error).__name__})") from None
        return spec

    def validate(self) -> None:
        """Kind, sizes and operation fit each other, and the whole stays below the size limit."""
        inputs = 2 if self.kind in ("additive", "binary") else 1
        if self.kind not in KINDS or self.operation not in BILINEAR or len(self.sizes) != inputs:
            raise ValueError("no such tuple")
        if self.options and not self.operation.startswith("conv"):
            raise ValueError("only a convolution has options")
        if any(extent < 1 for size in self.sizes for extent in size):
            raise ValueError("nothing to deal")
        if sum(map(math.prod, (*self.sizes, self.derived_size()))) > MAX_STEP_ELEMENTS:
            raise ValueError("tuple too large")

    def draw(self, generator: RingGenerator) -> tuple[torch.Tensor, ...]:
        """One party's inputs."""
        if self.kind == "bit":
            return (generator.bits(self.sizes[0], 1),)
        return tuple(generator.ring(size) for size in self.sizes)

    def derived_size(self) -> torch.Size:
        """Size of the derived value, computed without data."""
        if self.kind == "additive" and self.operation != "mul":
            empty = [torch.empty(size, device="meta") for size in self.sizes]
            derived: torch.Tensor = getattr(torch, self.operation)(*empty, **dict(self.options))
            return derived.shape
        return torch.Size(torch.broadcast_shapes(*self.sizes))


def deal_tuple(payload: bytes, developer: RingGenerator, auditor: RingGenerator) -> torch.Tensor:
    """The developer's share of the derived value, flat int64."""
    spec = TupleSpec.decode(payload)
    ours, theirs = spec.draw(developer), spec.draw(auditor)
    if spec.kind in ("binary", "bit"):
        inputs = [x ^ y for x, y in zip(ours, theirs, strict=True)]
    else:
        inputs = [x + y for x, y in zip(ours, theirs, strict=True)]
    share = auditor.ring(spec.derived_size())
    if spec.kind == "additive":
        value: torch.Tensor = getattr(torch, spec.operation)(*inputs, **dict(spec.options))
    elif spec.kind == "square":
        value = inputs[0] * inputs[0]
    elif spec.kind == "binary":
        return ((inputs[0] & inputs[1]) ^ share).reshape(-1)
    elif spec.kind == "wraps":
        value = signed_wraps(ours[0], theirs[0])
    else:
        value = inputs[0]
    return (value - share).reshape(-1)


def signed_wraps(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """How often left + right left the signed 64-bit range: +1 above, -1 below, else 0."""
    total = left + right
    crossed = logical_shift((left ^ total) & (right ^ total), 63)
    return torch.where(left < 0, -crossed, crossed)


def _option(key: Any, value: Any) -> Any:
    """Of a convolution: a number, or one for each dimension."""
    if isinstance(value, list):
        return tuple(_option(key, each) for each in value)
    if key not in OPTIONS or not OPTIONS[key] <= whole(value) <= MAX_OPTION:
        raise ValueError("no such option")
    return value
