"""The one-round sigmoid in shared fixed point, and the integer sines that both parties must compute alike."""

from __future__ import annotations

import ast
import inspect
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secure_fair.fairness import objectives
from secure_fair.mpc.dealing import server
from secure_fair.mpc.dealing.plan import Plan, StepProgram
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import RingGenerator
from secure_fair.mpc.engine.sharing import FRACTION_BITS, decode, encode
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols import waves as waves_module
from secure_fair.mpc.protocols.sigmoid import (
    PHASE_BITS,
    RANGE,
    Odd,
    masked_phase,
    opened_phase,
    scaled,
    sine_tuple,
)
from secure_fair.mpc.protocols.waves import WAVE_BITS, waves
from secure_fair.transport.wire import HEADER
from tests.mpc.chi_square import uniform
from tests.mpc.three_threads import Meter, Network, Traffic

IN_BITS = 40


def secure_sigmoid(
    network: Network, x: torch.Tensor, factor: float = 1.0, bits: int = 36, function: Odd = Odd.SIGMOID
) -> tuple[torch.Tensor, Traffic, torch.Tensor]:
    """factor * (sigmoid - 1/2) of a random sharing of x, a party's traffic, and what both parties opened."""
    program = StepProgram("sigmoid", sines={"s": sine_tuple(tuple(x.shape), function)})
    share = RingGenerator(bytes(32)).ring(x.shape)

    def side(mine: torch.Tensor, party: Party) -> tuple[torch.Tensor, Traffic, torch.Tensor]:
        meter, dealt = Meter(party.peer), party.source.next("sigmoid").sine("s")
        ours = masked_phase(mine, IN_BITS, dealt)
        party.send(Kind.MASKED, ours)
        (theirs,) = party.receive(Kind.MASKED, ours.shape, dtype=torch.uint8)
        return scaled(ours, theirs, dealt, factor, bits), meter.lap(), opened_phase(ours, theirs)

    outcome = network.run(
        Plan(((program, 1),)),
        lambda party: side(encode(x, IN_BITS) - share, party),
        lambda party: side(share, party),
    )
    (ours, traffic, opened), (theirs, their_traffic, _) = outcome.developer, outcome.auditor
    assert traffic == their_traffic
    return decode(ours + theirs, bits), traffic, opened


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the dealer, the same in every run: nothing is by chance, where chance is not what is tested."""
    upcoming = itertools.count(1)
    monkeypatch.setattr(server, "fresh_seed", lambda: next(upcoming).to_bytes(32, "big"))


@pytest.mark.usefixtures("seeds")
@pytest.mark.parametrize("elements", [64, 4096])
@pytest.mark.parametrize(("factor", "bits"), [(1.0, 36), (1.0, 31), (28.0, 27), (0.1 / 64, 42), (0.001 / 512, 50)])
def test_one_round_three_bytes_and_small_error(network: Network, elements: int, factor: float, bits: int) -> None:
    """The masks decide the roundings. At the smallest scale, 2^13, the errors have a standard deviation of 2.7e-5, and
    the largest of millions reaches 1e-4.
    """
    x = torch.linspace(-RANGE, RANGE, elements, dtype=torch.float64)
    result, traffic, _ = secure_sigmoid(network, x, factor, bits)
    assert float((result / factor - (torch.sigmoid(x) - 0.5)).abs().max()) <= 1e-4
    assert traffic == Traffic(rounds=1, messages=1, bytes=3 * elements + HEADER.size)


@pytest.mark.usefixtures("seeds")
def test_the_slope_of_the_entropy(network: Network) -> None:
    x = torch.linspace(-RANGE, RANGE, 4096, dtype=torch.float64)
    result, _, _ = secure_sigmoid(network, x, function=Odd.ENTROPY)
    assert float((result - objectives.entropy_slope(x)).abs().max()) <= 1e-4


@pytest.mark.parametrize("constant", [0.0, -RANGE])
def test_what_is_opened_is_uniform(network: Network, constant: float) -> None:
    """x - r for one x: fresh seeds each time, so a false alarm comes once in 10^9 runs."""
    _, _, opened = secure_sigmoid(network, torch.full((4096,), constant, dtype=torch.float64))
    assert uniform(opened >> (PHASE_BITS - 6), 64) > 1e-9
    assert uniform(opened & 63, 64) > 1e-9


def test_waves_are_exact_for_every_phase() -> None:
    """All 2^23 phases against float64, whose own error is far below a unit of 2^-30."""
    worst = 0.0
    for part in np.split(np.arange(1 << PHASE_BITS, dtype=np.int64), 16):
        angle = part * (2 * np.pi / (1 << PHASE_BITS))
        sine, cosine = waves(part, PHASE_BITS)
        assert sine.dtype == cosine.dtype == np.int64
        for got, true in ((sine, np.sin(angle)), (cosine, np.cos(angle))):
            worst = max(worst, float(np.abs(got - true * (1 << WAVE_BITS)).max()))
    assert worst < 2


@given(phase=st.integers(-(2**40), 2**40))
def test_waves_have_the_period(phase: int) -> None:
    turn = np.array([phase], dtype=np.int64)
    again = waves(turn + (1 << PHASE_BITS), PHASE_BITS)
    for got, same in zip(waves(turn, PHASE_BITS), again, strict=True):
        assert got == same


def test_waves_use_no_floating_point() -> None:
    """A last bit of libm that differs between two machines would turn a result into noise."""
    tree = ast.parse(inspect.getsource(waves_module))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Div)
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np":
            assert node.attr in {"int64", "empty"}


def test_fraction_bits_fit_the_period() -> None:
    """The period is 2^7 and divides the ring, so that a wrapped share does no harm."""
    assert PHASE_BITS == FRACTION_BITS + 7
    assert RANGE < 2.0**7 / 2
