"""Secure ORTH-ADAPTER: its gradient against float64, bytes on the wire, and the row space that it gives away."""

from __future__ import annotations

import pytest
import torch

from secure_fair.fairness import overlap
from secure_fair.leakage.row_space import recovered
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.protocols.overlap import BITS, DeveloperStep, OverlapShape, auditor_step
from secure_fair.transport.wire import HEADER
from tests.mpc.three_threads import Meter, Network, Traffic

LAYERS = (96, 96, 288)
STEPS = 3


def factors(rank: int, seed: int) -> list[torch.Tensor]:
    """As peft draws A: uniform to 1 / sqrt(d), then moved a little."""
    drawn = torch.Generator().manual_seed(seed)
    return [torch.randn(d, rank, generator=drawn, dtype=torch.float64) / d**0.5 for d in LAYERS]


@pytest.mark.parametrize(("rank", "other_rank"), [(8, 8), (4, 2)])
def test_the_gradient_equals_plaintext(network: Network, rank: int, other_rank: int) -> None:
    owns, other = [factors(rank, seed) for seed in range(STEPS)], factors(other_rank, 99)
    shape = OverlapShape.of(owns[0], other_rank)

    def developer(party: Party) -> tuple[list[list[torch.Tensor]], Traffic]:
        meter, found = Meter(party.peer), []
        for own in owns:
            found.append(DeveloperStep(party, shape, own).finish())
            traffic = meter.lap()
        return found, traffic

    def auditor(party: Party) -> Traffic:
        meter = Meter(party.peer)
        for _ in owns:
            auditor_step(party, shape, other)
            traffic = meter.lap()
        return traffic

    outcome = network.run(Plan(((shape.program(), STEPS),)), developer, auditor)
    found, sent = outcome.developer
    for own, gradients in zip(owns, found, strict=True):
        for mine, theirs, gradient in zip(own, other, gradients, strict=True):
            # Each factor is off by 2^-19 an entry, and enters through the norms of the others (Frobenius, at most).
            slack = 2.0 ** -(BITS + 1) * len(mine) ** 0.5 * (2 * theirs.norm() * mine.norm() + theirs.norm() ** 2)
            assert float((gradient - overlap.gradient_half(mine, theirs)).abs().max()) <= float(slack)
            assert recovered(gradient.numpy(), theirs.numpy()) > 0.999
            assert recovered(mine.numpy(), theirs.numpy()) < 0.5  # what one would have without
    small, large = rank * other_rank * len(LAYERS), sum(LAYERS)
    assert sent == Traffic(rounds=2, messages=2, bytes=8 * (large * rank + small) + 2 * HEADER.size)
    received = outcome.auditor
    assert (received.messages, received.bytes) == (2, 8 * large * (rank + other_rank) + 2 * HEADER.size)
    assert shape.floor_bytes == sent.bytes + received.bytes - 4 * HEADER.size


def test_the_penalty_is_zero_on_the_complement_and_its_gradient_is_autograds() -> None:
    own, other = factors(4, 1), factors(3, 2)
    leaves = [value.clone().requires_grad_() for value in own]
    overlap.overlap(leaves, other).backward()
    for leaf, theirs in zip(leaves, other, strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, 2 * overlap.gradient_half(leaf.detach(), theirs))
    outside = [
        mine - theirs @ torch.linalg.lstsq(theirs, mine).solution for mine, theirs in zip(own, other, strict=True)
    ]
    assert overlap.overlap(outside, other) < 1e-20 < overlap.overlap(own, other)
