"""The order of steps that both parties derive from public numbers: so the dealer's plan needs no negotiation."""

from __future__ import annotations

from collections.abc import Iterator

from parties.messages import DeveloperHello
from secure_fair.mpc.dealing.plan import Plan, StepProgram
from secure_fair.mpc.terms import PublicShape, SecureMethod
from secure_fair.settings import Settings


def batch_sizes(hello: DeveloperHello) -> Iterator[int]:
    """Records of each step of a training run: full batches, and the short last one of each epoch."""
    full, rest = divmod(hello.train, hello.batch_size)
    for _ in range(hello.epochs):
        yield from [hello.batch_size] * full
        if rest:
            yield rest


def training_plan(method: SecureMethod, settings: Settings, public: PublicShape, hello: DeveloperHello) -> Plan:
    """One step program a batch."""
    full, rest = divmod(hello.train, hello.batch_size)
    epoch: list[tuple[StepProgram, int]] = []
    if full:
        epoch.append((method.program(settings, public, hello.batch_size), full))
    if rest:
        epoch.append((method.program(settings, public, rest), 1))
    return Plan(tuple(epoch * hello.epochs))
