"""Training steps of the secure terms, as the parties run them: announced, prepared before the forward pass, finished.

The developer's side is a FairnessTerm; the auditor's follows the announcements.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from parties.messages import decode_step, encode_step, step_size
from secure_fair.fairness import methods
from secure_fair.fairness.terms import FairnessTerm
from secure_fair.mpc.dealing.plan import Plan, StepProgram
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.terms import PublicShape, SecureMethod
from secure_fair.settings import Settings

METHODS = {"orth-parity": ("orth", "parity"), "orth-odds": ("orth", "odds"), "adv": ("adv", "odds")}
CLASSES = 2


@dataclass(frozen=True)
class StepShape:
    """A kind of step and its sizes: n records, width d, K groups."""

    name: str
    n: int
    d: int
    k: int

    @property
    def settings(self) -> Settings:
        return Settings.model_validate({"fairness": {"criterion": METHODS[self.name][1]}})

    @property
    def method(self) -> SecureMethod:
        found: SecureMethod = methods.factory(methods.get(METHODS[self.name][0]).secure["gradient"])()
        return found

    @property
    def public(self) -> PublicShape:
        return PublicShape(self.d, CLASSES, (self.k,))

    def program(self) -> StepProgram:
        return self.method.program(self.settings, self.public, self.n)

    def floor_bytes(self) -> int:
        return self.method.floor_bytes(self.public, self.n)


def plan(shapes: Sequence[StepShape]) -> Plan:
    """What the dealer deals for these steps, in order."""
    return Plan(tuple((shape.program(), 1) for shape in shapes))


def term(shape: StepShape, party: Party) -> FairnessTerm:
    """The developer's secure term."""
    step = -1

    def announce(positions: torch.Tensor) -> None:
        nonlocal step
        step += 1
        party.peer.send(Kind.STEP, *encode_step(step, positions.numpy()))

    return shape.method.developer(shape.settings, shape.public, party, announce)


def follow(shapes: Sequence[StepShape], onehot: torch.Tensor, party: Party) -> None:
    """The auditor's side of these steps; onehot: int64 [records, K]."""
    programs = {shape: shape.method.auditor(shape.settings, shape.public) for shape in dict.fromkeys(shapes)}
    for shape in shapes:
        _, positions = decode_step(party.peer.receive(Kind.STEP, size=step_size(shape.n)))
        programs[shape].step(party, onehot[positions])


def attributes(records: int, k: int) -> torch.Tensor:
    """One-hot [records, k], random."""
    return torch.from_numpy(np.eye(k, dtype=np.int64)[np.random.default_rng(k).integers(0, k, records)])


def exposed_seconds(secure: FairnessTerm, shape: StepShape, forward_seconds: float) -> float:
    """Seconds of one step in which training waits for the term; a pause stands for the forward pass."""
    h, positions = torch.randn(shape.n, shape.d, requires_grad=True), torch.arange(shape.n)
    labels = positions % CLASSES
    began = time.perf_counter()
    secure.prepare(labels, positions)
    prepared = time.perf_counter()
    time.sleep(forward_seconds)
    back = time.perf_counter()
    secure.begin(h, labels, positions)
    value = secure.finish()
    seconds = time.perf_counter() - back + prepared - began
    value.backward()
    return seconds
