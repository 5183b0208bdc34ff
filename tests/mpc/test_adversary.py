"""Secure ADV against the float64 plaintext over many steps, at the extremes that its shape admits."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
import torch

from secure_fair.errors import ProtocolError
from secure_fair.fairness import objectives
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.sharing import FRACTION_BITS, decode, encode, from_share
from secure_fair.mpc.protocols import adversary
from secure_fair.mpc.protocols.adversary import WEIGHT_BITS, AdversaryShape
from secure_fair.mpc.protocols.sigmoid import RANGE
from secure_fair.transport.wire import HEADER
from tests.mpc.three_threads import Meter, Network, Traffic

LEAST_DECAY = 2 / RANGE


@dataclass
class Run:
    """Opened gradients in sum scale and the last weights, secure; traffic of one step."""

    gradients: list[torch.Tensor]
    weights: torch.Tensor
    developer: Traffic
    auditor: Traffic


def run(network: Network, shape: AdversaryShape, us: list[torch.Tensor], targets: list[torch.Tensor]) -> Run:
    def developer(party: Party) -> tuple[list[torch.Tensor], torch.Tensor, Traffic]:
        w, gradients, meter = from_share(torch.zeros(shape.d + 1, shape.j, dtype=torch.int64)), [], Meter(party.peer)
        for u in us:
            opened, w = adversary.DeveloperStep(party, shape).send(encode(objectives.with_bias(u)), w).finish()
            gradients.append(decode(opened, shape.gradient_bits) * shape.n / shape.rate)
            traffic = meter.lap()
        return gradients, w.share, traffic

    def auditor(party: Party) -> tuple[torch.Tensor, Traffic]:
        w, meter = from_share(encode(objectives.adversary_start(shape.d, shape.j, 0), WEIGHT_BITS)), Meter(party.peer)
        for target in targets:
            w = adversary.auditor_step(party, shape, target, w)
            traffic = meter.lap()
        return w.share, traffic

    outcome = network.run(Plan(((shape.program(), len(us)),)), developer, auditor)
    gradients, ours, sent = outcome.developer
    theirs, received = outcome.auditor
    return Run(gradients, decode(ours + theirs, WEIGHT_BITS), sent, received)


def check(shape: AdversaryShape, us: list[torch.Tensor], targets: list[torch.Tensor], secure: Run) -> torch.Tensor:
    """Every gradient within 1e-3 of its largest entry, and the last weights close; returns the plaintext weights."""
    w = objectives.adversary_start(shape.d, shape.j, 0)
    for u, target, opened in zip(us, targets, secure.gradients, strict=True):
        sums, weight_sums = objectives.adversary_gradients(objectives.with_bias(u), w, target)
        plain = sums[:, :-1]
        assert float((opened - plain).abs().max()) <= 1e-3 * float(plain.abs().max())
        w = objectives.adversary_update(w, weight_sums, shape.n, shape.rate, shape.decay)
    assert float((secure.weights - w).abs().max()) <= 1e-3 * float(w.abs().max())
    return w


@pytest.mark.parametrize(
    ("n", "d", "j", "rate"),
    [(1, 16, 1, 1.0), (7, 192, 3, 1.0), (64, 192, 1, 0.1), (64, 16, 3, 1.0), (512, 8, 1, 1e-3), (7, 16, 16, 20.0)],
)
def test_fifty_steps_equal_plaintext(network: Network, n: int, d: int, j: int, rate: float) -> None:
    torch.manual_seed(n + d + j)
    shape = AdversaryShape(n, d, j, rate, decay=0.05)
    us = [objectives.normalise(torch.randn(n, d, dtype=torch.float64)) for _ in range(50)]
    targets = [torch.randint(0, 2, (n, j)) for _ in us]
    secure = run(network, shape, us, targets)
    check(shape, us, targets, secure)

    u, w, small = n * (d + 1), (d + 1) * j, n * j
    assert secure.developer == Traffic(
        rounds=2, messages=4, bytes=8 * (u + w + small + w) + 3 * small + 4 * HEADER.size
    )
    assert secure.auditor.messages == 4
    assert secure.auditor.bytes == 8 * (w + small + w + n * d) + 3 * small + 4 * HEADER.size


@pytest.mark.parametrize("j", [1, 6])
@pytest.mark.parametrize("n", [1, 512])
@pytest.mark.parametrize(("rate", "decay"), [(1 / LEAST_DECAY, LEAST_DECAY), (1.0, 1.0), (1.0, LEAST_DECAY)])
def test_nothing_overflows_at_the_extremes(network: Network, rate: float, decay: float, n: int, j: int) -> None:
    """All records alike, one coordinate, targets that flip each step: weights reach the edge of their range."""
    d = 16
    shape = AdversaryShape(n, d, j, rate, decay)
    h = torch.zeros(n, d, dtype=torch.float64)
    h[:, 0] = 1.0
    us = [objectives.normalise(h)] * 12
    targets = [torch.full((n, j), step % 2) for step in range(len(us))]
    w = check(shape, us, targets, run(network, shape, us, targets))
    reached = float(w.norm(dim=0).max())
    assert reached <= math.sqrt(2) / decay + 1e-9
    if rate * decay == 1:
        assert reached >= 0.6 * math.sqrt(2) / decay


@pytest.mark.parametrize(
    "shape",
    [
        AdversaryShape(n, 768, j, fraction / decay, decay)
        for n, j, decay, fraction in itertools.product(
            (1, 64, 4096), (1, 16), (LEAST_DECAY, 0.1, 1.0), (1.0, 0.1, 1e-3, 1e-9)
        )
    ],
    ids=lambda s: f"n{s.n}-j{s.j}-rate{s.rate:.3g}-decay{s.decay:.3g}",
)
def test_scales_hold_for_the_worst_inputs(shape: AdversaryShape) -> None:
    """Bounds from ||w|| <= sqrt(2) / lambda, |sigmoid - t| <= 1 and |u| <= 1 by the integers that the steps compute."""
    residual = round(shape.rate / shape.n * 2.0**shape.residual_bits) + 1
    weight = round(math.sqrt(2) / shape.decay * 2.0**WEIGHT_BITS) + 1
    assert shape.j * residual * weight < 2**63
    assert shape.decay_factor * weight + shape.n * 2**FRACTION_BITS * residual < 2**62
    assert 1 <= shape.shift <= 62


@pytest.mark.parametrize(
    ("rate", "decay"),
    [(0.1, 0.0), (0.1, -0.1), (0.1, LEAST_DECAY * 0.99), (0.1, math.nan), (math.nan, 0.1), (-0.1, 0.1), (10.1, 0.1)],
)
def test_settings_that_let_logits_leave_the_range_are_refused(rate: float, decay: float) -> None:
    with pytest.raises(ProtocolError, match="keep weight_decay >= 0"):
        AdversaryShape(4, 8, 1, rate, decay)
