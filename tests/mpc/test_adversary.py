"""Secure ADV against the float64 plaintext over many steps, at the extremes that its shape admits."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch

from secure_fair.errors import ProtocolError
from secure_fair.fairness import objectives
from secure_fair.mpc.dealing import server
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.sharing import FRACTION_BITS, decode, encode, from_share
from secure_fair.mpc.protocols import adversary
from secure_fair.mpc.protocols.adversary import WEIGHT_BITS, AdversaryShape
from secure_fair.mpc.protocols.sigmoid import RANGE, VALUE_BITS
from secure_fair.transport.wire import HEADER
from tests.mpc.three_threads import Meter, Network, Traffic

LEAST_DECAY = 2 / RANGE
SINE_ERROR = 5e-5  # tests/mpc/test_sigmoid.py


@pytest.fixture(autouse=True)
def seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks decide roundings, and steps may magnify them: with the dealer's seeds fixed nothing is by chance."""
    upcoming = itertools.count(1)
    monkeypatch.setattr(server, "fresh_seed", lambda: next(upcoming).to_bytes(32, "big"))


@dataclass
class Run:
    """Opened gradients in sum scale and the weights after each step, secure; traffic of one step."""

    gradients: list[torch.Tensor]
    weights: list[torch.Tensor]
    developer: Traffic
    auditor: Traffic


def with_bias(shape: AdversaryShape, u: torch.Tensor, step: int) -> torch.Tensor:
    """As the terms build it; classes are drawn from the step's number."""
    if shape.biases == 1:
        return objectives.with_bias(u)
    labels = torch.randint(shape.biases, (len(u),), generator=torch.Generator().manual_seed(step))
    return objectives.with_bias(u, labels, shape.biases)


def start(shape: AdversaryShape) -> torch.Tensor:
    return objectives.adversary_start(shape.d, shape.j, 0, shape.biases)


def run(network: Network, shape: AdversaryShape, us: list[torch.Tensor], targets: list[torch.Tensor]) -> Run:
    def developer(party: Party) -> tuple[list[torch.Tensor], list[torch.Tensor], Traffic]:
        w, gradients, shares = from_share(torch.zeros(shape.width, shape.j, dtype=torch.int64)), [], []
        meter = Meter(party.peer)
        for step, u in enumerate(us):
            opened, w = adversary.DeveloperStep(party, shape, w).send(encode(with_bias(shape, u, step))).finish()
            gradients.append(decode(opened, shape.gradient_bits) * shape.n / shape.rate)
            shares.append(w.share)
            traffic = meter.lap()
        return gradients, shares, traffic

    def auditor(party: Party) -> tuple[list[torch.Tensor], Traffic]:
        w, shares, meter = from_share(encode(start(shape), WEIGHT_BITS)), [], Meter(party.peer)
        for target in targets:
            w = adversary.auditor_step(party, shape, target, w)
            shares.append(w.share)
            traffic = meter.lap()
        return shares, traffic

    outcome = network.run(Plan(((shape.program(), len(us)),)), developer, auditor)
    gradients, ours, sent = outcome.developer
    theirs, received = outcome.auditor
    weights = [decode(own + other, WEIGHT_BITS) for own, other in zip(ours, theirs, strict=True)]
    return Run(gradients, weights, sent, received)


def check_steps(shape: AdversaryShape, us: list[torch.Tensor], targets: list[torch.Tensor], secure: Run) -> None:
    """Each gradient of ADV, and each update of the shared weights, is the plaintext's at the weights before it.

    The bounds are the fixed point's (docs/protocols.md): what test_sigmoid.py asserts for one sigmoid, its public
    weights rounded at the scale S, and x off by 2^-17, so the logits by 2^-17 ||w||_1 and their sigmoid by a quarter of
    that. It is taken times w in the gradient, and times x in the update, which 2^-17 of x adds to.
    """
    scale = shape.rate / shape.n * 2.0 ** (shape.residual_bits - VALUE_BITS)
    before = start(shape)
    for step, (u, target) in enumerate(zip(us, targets, strict=True)):
        x, opened, after = with_bias(shape, u, step), secure.gradients[step], secure.weights[step]
        gradient, weight_sums = objectives.adversary_gradients(x, before, target)
        expected = objectives.adversary_update(before, weight_sums, shape.n, shape.rate, shape.decay)
        sigmoid = 1e-4 + 1.1 / scale + 2.0**-19 * float(before.abs().sum(dim=0).max())
        bound = sigmoid * float(before.abs().sum(dim=1).max()) + 2.0**-WEIGHT_BITS
        assert shape.entropy or float((opened - gradient[:, : shape.d]).abs().max()) <= bound, step
        bound = shape.rate * (sigmoid * float(x.abs().mean(dim=0).max()) + 2.0**-17) + 2.0 ** (1 - WEIGHT_BITS)
        assert float((after - expected).abs().max()) <= bound, step
        before = after


def check(shape: AdversaryShape, us: list[torch.Tensor], targets: list[torch.Tensor], secure: Run) -> torch.Tensor:
    """Every gradient within 1e-3 of its largest entry, and the weights close; returns the last ones of the plaintext.

    ENT's slope is near 0 at first, the sine's error is not: it is multiplied with the weights.
    """
    check_steps(shape, us, targets, secure)
    w = start(shape)
    for step, (u, target, opened) in enumerate(zip(us, targets, secure.gradients, strict=True)):
        x1 = with_bias(shape, u, step)
        sums, weight_sums = objectives.adversary_gradients(x1, w, target)
        plain = (objectives.entropy_gradient(x1, w) if shape.entropy else sums)[:, : shape.d]
        slack = SINE_ERROR * float(w.abs().sum(dim=1).max()) if shape.entropy else 0.0
        assert float((opened - plain).abs().max()) <= 1e-3 * float(plain.abs().max()) + slack
        w = objectives.adversary_update(w, weight_sums, shape.n, shape.rate, shape.decay)
    if shape.rate * shape.decay < 1:  # else weights are new each step, which magnifies an error: see `check_steps`
        assert float((secure.weights[-1] - w).abs().max()) <= 1e-3 * float(w.abs().max())
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
        rounds=3, messages=6, bytes=8 * (u + w + small + w) + 3 * small + 6 * HEADER.size
    )
    assert secure.auditor.messages == 5
    assert secure.auditor.bytes == 8 * (w + small + w) + 4 * n * d + 3 * small + 5 * HEADER.size


@pytest.mark.parametrize(("n", "d", "j", "biases"), [(7, 192, 3, 2), (64, 192, 1, 3)])
def test_the_bias_of_each_class_and_the_entropy(network: Network, n: int, d: int, j: int, biases: int) -> None:
    """ENT, in the same number of messages: 3 bytes more for each logit, and one masked share of e each way."""
    torch.manual_seed(n + d + j)
    targets = [torch.randint(0, 2, (n, j)) for _ in range(40)]
    # A fast adversary, and targets that show: the slope of the entropy is to be met where it bends.
    shown = [torch.nn.functional.pad(6.0 * (2 * t - 1), (0, d - j)) for t in targets]
    us = [objectives.normalise(torch.randn(n, d, dtype=torch.float64) + t) for t in shown]
    shape = AdversaryShape(n, d, j, 4.0, 0.05, biases)
    own = run(network, shape, us, targets)
    check(shape, us, targets, own)
    entropy = replace(shape, entropy=True)
    other = run(network, entropy, us, targets)
    w = check(entropy, us, targets, other)
    assert float(objectives.adversary_logits(with_bias(shape, us[0], 0), w).abs().max()) > 0.5
    assert other.developer == replace(own.developer, bytes=own.developer.bytes + 11 * n * j)
    assert (other.auditor.messages, other.auditor.bytes) == (own.auditor.messages, own.auditor.bytes + 11 * n * j)


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
