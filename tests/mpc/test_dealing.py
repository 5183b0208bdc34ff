"""The dealer and its channel: what is dealt adds up, every mask is used once, and steps come in order."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from secure_fair.errors import FrameError, MaskReuseError, ProtocolError
from secure_fair.fairness import objectives
from secure_fair.mpc.dealing import server
from secure_fair.mpc.dealing.correlations import correction_elements, deal, expand
from secure_fair.mpc.dealing.plan import (
    OPERATIONS,
    Plan,
    StepProgram,
    product_shape,
)
from secure_fair.mpc.dealing.source import CREDIT, SESSION_BYTES, CorrelationSource, OneTimeMask
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import SEED_BYTES
from secure_fair.mpc.engine.sharing import decode, encode, from_share
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols import adversary, orthogonality
from secure_fair.mpc.protocols.adversary import AdversaryShape
from secure_fair.mpc.protocols.orthogonality import OrthogonalityShape
from tests.mpc.small_plans import EVERYTHING, OTHER, SMALL, generators, nothing
from tests.mpc.three_threads import TIMEOUT, Network


@pytest.mark.parametrize("program", EVERYTHING, ids=lambda p: p.name)
def test_shares_add_up_to_what_the_program_promises(program: StepProgram) -> None:
    correction = deal(program, *generators())
    assert correction.numel() == correction_elements(program)
    developer = expand(program, "developer", generators()[0], correction)
    auditor = expand(program, "auditor", generators()[1], None)
    masks = developer.masks | auditor.masks
    for name, product in program.products.items():
        value = OPERATIONS[product.operation](masks[product.left], masks[product.right])
        assert torch.equal(developer.products[name] + auditor.products[name], value)
        assert product_shape(masks[product.left].shape, masks[product.right].shape, product.operation) == value.shape
    for name, sine in program.sines.items():
        ours, theirs = developer.sines[name], auditor.sines[name]
        angle = (ours.phase + theirs.phase).double() * (2 * math.pi / 2**sine.phase_bits)
        for k, coefficient in enumerate(sine.coefficients, start=1):
            for wave, total in ((torch.sin, ours.sines + theirs.sines), (torch.cos, ours.cosines + theirs.cosines)):
                true = coefficient * wave(k * angle)
                assert float((decode(total[k - 1], sine.value_bits) - true).abs().max()) <= 2.0**-sine.value_bits
    for name, truncation in program.truncations.items():
        ours_t, theirs_t = developer.truncations[name], auditor.truncations[name]
        for r, shifted, top in zip(
            *((a + b).flatten().tolist() for a, b in zip(vars(ours_t).values(), vars(theirs_t).values(), strict=True)),
            strict=True,
        ):
            assert (shifted, top) == ((r % 2**64) >> truncation.shift, (r % 2**64) >> 63)


def test_a_correction_of_another_size_is_refused() -> None:
    program = EVERYTHING[0]
    correction = deal(program, *generators())
    for wrong, message in ((correction[:-1], "too short"), (torch.cat([correction, correction]), "too long")):
        with pytest.raises(ValueError, match=message):
            expand(program, "developer", generators()[0], wrong)


@pytest.mark.parametrize("extra", [-8, 8, 4])
def test_a_dealer_that_sends_another_size_ends_the_run(network: Network, extra: int) -> None:
    ours, dealers = network.pair("developer", "dealer")
    due = 8 * correction_elements(SMALL.program())

    def dealer() -> None:
        dealers.receive(Kind.PLAN)
        dealers.send(Kind.SEED, bytes(SESSION_BYTES + SEED_BYTES))
        dealers.receive(Kind.CREDIT)
        dealers.send(Kind.CORRECTION, bytes(due + extra))

    with ThreadPoolExecutor(1) as pool, ours, dealers:
        dealing = pool.submit(dealer)
        source = CorrelationSource("developer", ours, Plan(((SMALL.program(), 1),)))
        with pytest.raises(ProtocolError, match=f"{due + extra} bytes where {due} were due"):
            source.next(SMALL.program().name)
        dealing.result(TIMEOUT)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_dealer_cannot_fill_our_memory(network: Network, prefetch: int) -> None:
    """While the answer to a request is awaited, corrections are kept: as many as were granted, and no more."""
    ours, dealers = network.pair("developer", "dealer")

    def dealer() -> None:
        dealers.receive(Kind.PLAN)
        dealers.send(Kind.SEED, bytes(SESSION_BYTES + SEED_BYTES))
        for _ in range(prefetch + 1):
            dealers.send(Kind.CORRECTION, bytes(8 * correction_elements(SMALL.program())))

    with ThreadPoolExecutor(1) as pool, ours, dealers:
        dealing = pool.submit(dealer)
        source = CorrelationSource("developer", ours, Plan(((SMALL.program(), 9),)), prefetch)
        with pytest.raises(ProtocolError, match="a correction that nobody asked for"):
            source.request(b"", lambda _: lambda _: (), 1)
        assert len(source._early) == prefetch
        dealing.result(TIMEOUT)


def test_a_mask_hides_one_value() -> None:
    mask = OneTimeMask(torch.arange(3))
    assert torch.equal(mask.hide(torch.zeros(3, dtype=torch.int64)), -torch.arange(3))
    with pytest.raises(MaskReuseError, match="a second value"):
        mask.hide(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ProtocolError, match=r"shape \(3,\) cannot hide \(3, 1\)"):
        OneTimeMask(torch.arange(3)).hide(torch.zeros(3, 1, dtype=torch.int64))
    assert "tensor" not in repr(mask)


def test_a_step_hides_each_value_once(network: Network) -> None:
    def developer(party: Party) -> None:
        step = party.source.next(SMALL.program().name)
        h = torch.zeros(4, 3, dtype=torch.int64)
        step.mask("h").hide(h)
        with pytest.raises(MaskReuseError):
            step.mask("h").hide(h)
        step.product("moment")
        with pytest.raises(KeyError):
            step.product("moment")
        assert "int64" not in repr(party.source) + repr(step)

    network.run(Plan(((SMALL.program(), 1),)), developer, nothing)


@pytest.mark.parametrize("name", [OTHER.program().name, "unheard of"])
def test_steps_come_in_the_order_of_the_plan(network: Network, name: str) -> None:
    def developer(party: Party) -> None:
        with pytest.raises(ProtocolError, match=f"step 0: `{name}` was asked for, the plan holds a step of"):
            party.source.next(name)

    network.run(Plan(((SMALL.program(), 1), (OTHER.program(), 1))), developer, nothing)


@pytest.mark.parametrize(("prefetch", "granted"), [(0, []), (1, [1]), (3, [3]), (1000, [9])])
def test_steps_are_dealt_ahead_as_far_as_asked(network: Network, prefetch: int, granted: list[int]) -> None:
    """Of a plan whose corrections have 7 MiB a step, 64 MiB hold 9."""
    big = OrthogonalityShape(n=2**13, d=112, k=2).program()
    ours, dealer = network.pair("developer", "dealer")
    with ThreadPoolExecutor(1) as pool, ours, dealer:
        made = pool.submit(CorrelationSource, "developer", ours, Plan(((big, 50),)), prefetch)
        dealer.receive(Kind.PLAN)
        dealer.send(Kind.SEED, bytes(SESSION_BYTES + SEED_BYTES))
        source = made.result(TIMEOUT)
        asked = pool.submit(source.next, big.name)
        grants = [CREDIT.unpack(dealer.receive(Kind.CREDIT))[0] for _ in granted or [1]]
        dealer.send(Kind.CORRECTION, bytes(8 * correction_elements(big)))
        asked.result(TIMEOUT)
    assert grants == (granted or [1])


@pytest.mark.parametrize("adversarial", [False, True])
def test_results_do_not_depend_on_prefetch(
    network: Network, monkeypatch: pytest.MonkeyPatch, adversarial: bool
) -> None:
    """Bit for bit, with the dealer's seeds fixed: every opened value, and both shares of the adversary's weights."""
    shape = AdversaryShape(n=16, d=8, j=1, rate=0.1, decay=0.05)
    orth = OrthogonalityShape(n=16, d=9, k=2, classes=2)
    generator = torch.Generator().manual_seed(0)
    u = encode(objectives.with_bias(objectives.normalise(torch.randn(16, 8, generator=generator, dtype=torch.float64))))
    onehot = torch.nn.functional.one_hot(torch.arange(16) % 2, 2)
    start = from_share(torch.ones(9, 1, dtype=torch.int64))

    def developer(party: Party) -> Any:
        w = start
        for _ in range(5):
            if adversarial:
                _, w = adversary.DeveloperStep(party, shape, w).send(u).finish()
            else:
                orthogonality.DeveloperStep(party, orth, onehot.flip(0)).send(u).finish()
        return w.share

    def auditor(party: Party) -> Any:
        w = start
        for _ in range(5):
            if adversarial:
                w = adversary.auditor_step(party, shape, onehot[:, 1:], w)
            else:
                orthogonality.auditor_step(party, orth, onehot)
        return w.share

    outcomes = []
    for prefetch in (0, 1, 32):
        seeds = [bytes([2] * 32), bytes([1] * 32)]
        monkeypatch.setattr(server, "fresh_seed", seeds.pop)
        program = (shape if adversarial else orth).program()
        outcomes.append(network.run(Plan(((program, 5),)), developer, auditor, prefetch=prefetch))
    first = outcomes[0]
    assert len(first.disclosed) == 5
    for other in outcomes[1:]:
        assert torch.equal(other.developer, first.developer)
        assert torch.equal(other.auditor, first.auditor)
        for (_, value), (_, same) in zip(other.disclosed, first.disclosed, strict=True):
            assert torch.equal(value, same)


def test_a_plan_ends(network: Network) -> None:
    def developer(party: Party) -> None:
        party.source.next(SMALL.program().name)
        with pytest.raises(ProtocolError, match=r"step 1: .* the plan holds nothing more"):
            party.source.next(SMALL.program().name)

    network.run(Plan(((SMALL.program(), 1),)), developer, nothing)


@pytest.mark.parametrize(
    ("h", "t"), [(torch.zeros(5, 3), torch.zeros(4, 2)), (torch.zeros(4, 3), torch.zeros(4, 3))], ids=["h", "t"]
)
def test_inputs_of_another_shape_are_refused(network: Network, h: torch.Tensor, t: torch.Tensor) -> None:
    with pytest.raises(ProtocolError, match="cannot hide"):
        network.run(
            Plan(((SMALL.program(), 1),)),
            lambda party: orthogonality.DeveloperStep(party, SMALL, None).send(h.long()).finish(),
            lambda party: orthogonality.auditor_step(party, SMALL, t.long()),
        )


def test_a_message_of_another_size_is_refused(network: Network) -> None:
    def auditor(party: Party) -> None:
        party.send(Kind.MASKED, torch.zeros(4, 3, dtype=torch.int32))

    with pytest.raises(FrameError, match=r"sent 48 bytes for MASKED .*; it must be 32"):
        network.run(
            Plan(((SMALL.program(), 1),)),
            lambda party: orthogonality.DeveloperStep(party, SMALL, None).send(torch.zeros(4, 3).long()).finish(),
            auditor,
        )
