"""One side of a secure computation: who we are, the channel to the other side, and the dealer's randomness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from secure_fair.errors import ProtocolError
from secure_fair.mpc.dealing.correlations import Role
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.kinds import Kind
from secure_fair.transport.frames import Connection

_RANKS = {"developer": 0, "auditor": 1}


class Recorder(Protocol):
    """Is told of every value that the developer learns, and what one integer step of it is worth."""

    def __call__(self, name: str, value: torch.Tensor, unit: float, /) -> None: ...


@dataclass(repr=False)
class Party:
    """Messages are lists of ring tensors whose shapes both sides know from the step's program: no metadata is sent."""

    role: Role
    peer: Connection
    _source: CorrelationSource | None  # None: for opening what was computed before
    recorder: Recorder | None = None

    @property
    def source(self) -> CorrelationSource:
        """The dealer's randomness."""
        if self._source is None:
            raise ProtocolError("this party has no dealer; a computation needs one")
        return self._source

    @property
    def rank(self) -> int:
        """CrypTen's rank: developer 0, auditor 1."""
        return _RANKS[self.role]

    @property
    def is_developer(self) -> bool:
        return self.role == "developer"

    def send(self, kind: Kind, *tensors: torch.Tensor) -> None:
        """One frame that holds the tensors one after the other, little-endian."""
        self.peer.send(kind, *(as_bytes(tensor) for tensor in tensors))

    def receive(self, kind: Kind, *shapes: Sequence[int], dtype: torch.dtype = torch.int64) -> list[torch.Tensor]:
        """One frame that holds exactly tensors of these shapes."""
        width = dtype.itemsize
        sizes = [math.prod(shape) for shape in shapes]
        payload = self.peer.receive(kind, size=width * sum(sizes))
        if not payload:
            return [torch.empty(tuple(shape), dtype=dtype) for shape in shapes]
        flat = torch.frombuffer(payload, dtype=dtype)
        return [part.reshape(tuple(shape)) for part, shape in zip(flat.split(sizes), shapes, strict=True)]


def as_bytes(tensor: torch.Tensor) -> memoryview:
    """The tensor's memory, without a copy when it is contiguous."""
    if tensor.numel() == 0:
        return memoryview(b"")
    return memoryview(tensor.contiguous().numpy()).cast("B")
