"""A party's source of correlated randomness: confirms the plan, then hands out each step's masks exactly once."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Literal

import torch

from secure_fair.errors import MaskReuseError, ProtocolError
from secure_fair.mpc.dealing.correlations import (
    Role,
    SineShare,
    StepShares,
    TruncationShare,
    correction_elements,
    expand,
)
from secure_fair.mpc.dealing.plan import Plan, StepProgram
from secure_fair.mpc.engine.randomness import RING_BYTES, SEED_BYTES, RingGenerator
from secure_fair.mpc.kinds import Kind
from secure_fair.transport.frames import Connection

SESSION_BYTES = 16
PREFETCH_BYTES = 2**26
PREFETCH_STEPS = 32
REQUEST_INDEX = 2**63  # indices of tuples outside the plan start here
CREDIT = struct.Struct("<I")


class OneTimeMask:
    """A mask that hides one value. Hiding a second one would publish their difference."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values
        self._used = False

    def __repr__(self) -> str:
        return f"OneTimeMask(shape={tuple(self.values.shape)}, used={self._used})"

    def hide(self, value: torch.Tensor) -> torch.Tensor:
        """value - mask (mod 2^64), uniform to whoever does not know the mask."""
        if self._used:
            raise MaskReuseError("a mask was about to hide a second value; draw a new step from the dealer")
        if value.shape != self.values.shape:
            raise ProtocolError(f"a mask of shape {tuple(self.values.shape)} cannot hide {tuple(value.shape)}")
        self._used = True
        return value - self.values


class StepRandomness:
    """One step's masks and shares, each usable once."""

    def __init__(self, program: StepProgram, shares: StepShares) -> None:
        self.program = program
        self._masks = {name: OneTimeMask(values) for name, values in shares.masks.items()}
        self._masks |= {name: OneTimeMask(count.mask) for name, count in shares.counts.items()}
        self._shares = shares

    def mask(self, name: str) -> OneTimeMask:
        return self._masks[name]

    def product(self, name: str) -> torch.Tensor:
        return self._shares.products.pop(name)

    def sine(self, name: str) -> SineShare:
        return self._shares.sines.pop(name)

    def truncation(self, name: str) -> TruncationShare:
        return self._shares.truncations.pop(name)

    def count(self, name: str) -> torch.Tensor:
        return self._shares.counts.pop(name).product


class CorrelationSource:
    """The party's end of the dealer's channel.

    1. Sends the plan; the dealer compares both parties' plans and answers with a session id and a fresh seed.
    2. The developer grants credits; the dealer streams corrections ahead of need: `prefetch` steps, or as many as
       PREFETCH_BYTES hold, but one at least. prefetch 0: each step is dealt when it is asked for.
    3. `next(name)` gives the next step's randomness; index i of a session is handed out once.
    """

    def __init__(self, role: Role, dealer: Connection, plan: Plan, prefetch: int = PREFETCH_STEPS) -> None:
        self._role: Role = role
        self._ahead = prefetch > 0
        self._dealer = dealer
        self._plan = iter(plan)
        self._index = 0
        self._requests = 0
        self._early: deque[bytearray] = deque()  # corrections that came while the answer to a request was awaited
        self._owed = 0  # corrections granted that have not come
        dealer.send(Kind.PLAN, plan.encode())
        answer = dealer.receive(Kind.SEED, size=SESSION_BYTES + SEED_BYTES)
        self.session = bytes(answer[:SESSION_BYTES]).hex()
        self._seed = bytes(answer[SESSION_BYTES:])
        if role == "developer" and self._ahead:
            largest = max((correction_elements(program) for program, _ in plan.runs), default=0) * RING_BYTES
            self._grant(max(1, min(prefetch, PREFETCH_BYTES // max(largest, 1))))

    def __repr__(self) -> str:
        return f"CorrelationSource(role={self._role}, session={self.session}, index={self._index})"

    @property
    def offline_bytes(self) -> int:
        """What crossed the channel to the dealer, both ways."""
        return self._dealer.bytes_sent + self._dealer.bytes_received

    def next(self, name: str) -> StepRandomness:
        """The next step of the plan, which must be the program of that name."""
        program = next(self._plan, None)
        if program is None or program.name != name:
            planned = "nothing more" if program is None else f"a step of `{program.name}`"
            raise ProtocolError(f"step {self._index}: `{name}` was asked for, the plan holds {planned}")
        correction = None
        if self._role == "developer":
            if not self._ahead:
                self._grant(1)
            correction = self._receive(Kind.CORRECTION, correction_elements(program))
            if self._ahead:
                self._grant(1)
        shares = expand(program, self._role, RingGenerator(self._seed, self._index), correction)
        self._index += 1
        return StepRandomness(program, shares)

    def request(
        self,
        payload: bytes,
        draw: Callable[[RingGenerator], Callable[[torch.Tensor | None], tuple[torch.Tensor, ...]]],
        elements: int,
    ) -> tuple[torch.Tensor, ...]:
        """A tuple outside the plan, for CrypTen's own operations; both parties ask in the same order."""
        generator = RingGenerator(self._seed, REQUEST_INDEX + self._requests)
        self._requests += 1
        self._dealer.send(Kind.REQUEST, payload)
        finish = draw(generator)
        return finish(self._receive(Kind.REQUEST, elements) if self._role == "developer" else None)

    def close(self) -> None:
        """Tell the dealer that the session is over."""
        self._dealer.send(Kind.END)

    def _grant(self, steps: int) -> None:
        self._owed += steps
        self._dealer.send(Kind.CREDIT, CREDIT.pack(steps))

    def _receive(self, kind: Literal[Kind.CORRECTION, Kind.REQUEST], elements: int) -> torch.Tensor:
        """The next frame of that kind. Corrections wait for their turn, no more of them than were granted."""
        if kind is Kind.CORRECTION and self._early:
            payload = self._early.popleft()
        else:
            while True:
                arrived, payload = self._dealer.receive_any((Kind.CORRECTION, kind))
                if arrived == Kind.CORRECTION:
                    if not self._owed:
                        raise ProtocolError("the dealer sent a correction that nobody asked for")
                    self._owed -= 1
                if arrived == kind:
                    break
                self._early.append(payload)
        if len(payload) != elements * RING_BYTES:
            raise ProtocolError(f"the dealer sent {len(payload)} bytes where {elements * RING_BYTES} were due")
        return torch.frombuffer(payload, dtype=torch.int64) if payload else torch.empty(0, dtype=torch.int64)
