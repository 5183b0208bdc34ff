"""The order of steps that both parties derive from public numbers: so the dealer's plan needs no negotiation."""

from __future__ import annotations

from collections.abc import Iterator

from parties.messages import DeveloperHello
from secure_fair.mpc.dealing.plan import Plan, StepProgram
from secure_fair.mpc.terms import PublicShape, SecureMethod
from secure_fair.settings import Settings


def steps_per_epoch(hello: DeveloperHello) -> int:
    """Batches of an epoch, the short last one among them."""
    return -(-hello.train // hello.batch_size)


def batch_sizes(hello: DeveloperHello, start: int = 0) -> Iterator[tuple[int, int]]:
    """(number, records) of each step from number `start` on: full batches, and the short last one of each epoch."""
    epoch = steps_per_epoch(hello)
    for step in range(start, hello.epochs * epoch):
        last = step % epoch == epoch - 1
        yield step, hello.train - (epoch - 1) * hello.batch_size if last else hello.batch_size


def training_plan(
    method: SecureMethod, settings: Settings, public: PublicShape, hello: DeveloperHello, start: int = 0
) -> Plan:
    """One step program a batch, from step number `start` on."""
    full, rest = divmod(hello.train, hello.batch_size)
    programs = [(method.program(settings, public, n), count) for n, count in ((hello.batch_size, full), (rest, 1)) if n]
    runs: list[tuple[StepProgram, int]] = []
    past, begun = divmod(start, steps_per_epoch(hello))
    for _ in range(past, hello.epochs):
        for program, count in programs:
            left = max(0, count - begun)
            begun = max(0, begun - count)
            if left:
                runs.append((program, left))
    return Plan(tuple(runs))
