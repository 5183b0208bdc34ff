"""CrypTen's collective operations between our two parties, over our channel. Nothing is pickled."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed import ReduceOp

from secure_fair.errors import ProtocolError
from secure_fair.mpc.engine.compat import Communicator
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind

_PARTIES = 2


class ChannelCommunicator(Communicator):  # type: ignore[misc]  # CrypTen carries no types
    """Takes the place of CrypTen's gloo communicator; `runtime.install` puts it there.

    Every collective is one message each way at most, so a call is a round. CrypTen asks for the communicator through
    class methods, hence the one instance kept by the class.
    """

    instance: ChannelCommunicator | None = None

    def __init__(self, party: Party) -> None:
        self._party = party
        self.reset_communication_stats()

    @classmethod
    def is_initialized(cls) -> bool:
        return cls.instance is not None

    @classmethod
    def get(cls) -> ChannelCommunicator:
        if cls.instance is None:
            raise ProtocolError("CrypTen is used before the parties are connected; call runtime.install first")
        return cls.instance

    @classmethod
    def shutdown(cls) -> None:
        cls.instance = None

    def get_rank(self) -> int:
        return self._party.rank

    def get_world_size(self) -> int:
        return _PARTIES

    def send(self, tensor: torch.Tensor, dst: int) -> None:
        self._party.send(Kind.COLLECTIVE, tensor)

    def recv(self, tensor: torch.Tensor, src: int | None = None) -> torch.Tensor:
        (received,) = self._party.receive(Kind.COLLECTIVE, tensor.shape, dtype=tensor.dtype)
        self.comm_rounds += 1
        return received

    def _exchange(self, tensor: torch.Tensor) -> torch.Tensor:
        self.send(tensor, 1 - self.get_rank())
        return self.recv(tensor)

    def all_reduce(self, value: Any, op: Any = ReduceOp.SUM, batched: bool = False) -> Any:
        if not batched:
            return _combine(value, self._exchange(value), op)
        flat = torch.cat([tensor.reshape(-1) for tensor in value])
        total = _combine(flat, self._exchange(flat), op)
        parts = total.split([tensor.numel() for tensor in value])
        return [part.reshape(tensor.shape) for part, tensor in zip(parts, value, strict=True)]

    def reduce(self, value: Any, dst: int, op: Any = ReduceOp.SUM, batched: bool = False) -> Any:
        tensors = value if batched else [value]
        if self.get_rank() != dst:
            for tensor in tensors:
                self.send(tensor, dst)
            return None
        results = [_combine(tensor, self.recv(tensor), op) for tensor in tensors]
        return results if batched else results[0]

    def gather(self, tensor: torch.Tensor, dst: int) -> list[torch.Tensor | None]:
        if self.get_rank() != dst:
            self.send(tensor, dst)
            return [None]
        received = self.recv(tensor)
        return [tensor, received] if dst == 0 else [received, tensor]

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        received = self._exchange(tensor)
        return [tensor, received] if self.get_rank() == 0 else [received, tensor]

    def broadcast(self, value: Any, src: int, group: Any = None, batched: bool = False) -> Any:
        tensors = value if batched else [value]
        if self.get_rank() == src:
            for tensor in tensors:
                self.send(tensor, 1 - src)
            return value
        received = [self.recv(tensor) for tensor in tensors]
        return received if batched else received[0]

    def barrier(self) -> None:
        self._exchange(torch.zeros(1, dtype=torch.int64))

    def send_obj(self, obj: Any, dst: int, group: Any = None) -> None:
        raise ProtocolError("CrypTen would pickle an object onto the wire; give tensors their sizes instead")

    def recv_obj(self, src: int, group: Any = None) -> Any:
        raise ProtocolError("CrypTen would unpickle an object from the wire; give tensors their sizes instead")

    def broadcast_obj(self, obj: Any, src: int, group: Any = None) -> Any:
        raise ProtocolError("CrypTen would pickle an object onto the wire; give tensors their sizes instead")


def _combine(ours: torch.Tensor, theirs: torch.Tensor, op: Any) -> torch.Tensor:
    if op == ReduceOp.SUM:
        return ours + theirs
    if op == ReduceOp.BXOR:
        return ours ^ theirs
    raise ProtocolError(f"CrypTen asked for the reduction {op}, which two shares do not need")
