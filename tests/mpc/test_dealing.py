"""The dealer and its channel: agreement on the plan, one use of every mask, and refusal of everything malformed."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secure_fair.errors import FrameError, MaskReuseError, ProtocolError, SecureFairError
from secure_fair.fairness import objectives
from secure_fair.mpc.dealing import server
from secure_fair.mpc.dealing.correlations import correction_elements, deal, expand
from secure_fair.mpc.dealing.plan import (
    MAX_STEP_ELEMENTS,
    OPERATIONS,
    Mask,
    Plan,
    Product,
    Sine,
    StepProgram,
    Truncation,
    product_shape,
)
from secure_fair.mpc.dealing.server import serve_session
from secure_fair.mpc.dealing.source import CREDIT, SESSION_BYTES, CorrelationSource, OneTimeMask
from secure_fair.mpc.dealing.tuples import TupleSpec, deal_tuple, signed_wraps
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import SEED_BYTES, RingGenerator
from secure_fair.mpc.engine.sharing import decode, encode, from_share
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols import adversary, orthogonality
from secure_fair.mpc.protocols.adversary import AdversaryShape
from secure_fair.mpc.protocols.orthogonality import OrthogonalityShape
from tests.mpc.three_threads import TIMEOUT, Network

SMALL = OrthogonalityShape(n=4, d=3, k=2)
OTHER = OrthogonalityShape(n=4, d=3, k=2, classes=2)
EVERYTHING = (SMALL.program(), OTHER.program(), AdversaryShape(4, 3, 2, 0.1, 0.05).program())


def generators() -> tuple[RingGenerator, RingGenerator]:
    return RingGenerator(bytes([1] * 32)), RingGenerator(bytes([2] * 32))


# what is dealt


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


# masks and order


def test_a_mask_hides_one_value() -> None:
    mask = OneTimeMask(torch.arange(3))
    assert torch.equal(mask.hide(torch.zeros(3, dtype=torch.int64)), -torch.arange(3))
    with pytest.raises(MaskReuseError, match="a second value"):
        mask.hide(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ProtocolError, match=r"shape \(3,\) cannot hide \(3, 1\)"):
        OneTimeMask(torch.arange(3)).hide(torch.zeros(3, 1, dtype=torch.int64))
    assert "tensor" not in repr(mask)


def nothing(_: Party) -> None:
    pass


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


# agreement


@pytest.mark.parametrize("theirs", [Plan(((SMALL.program(), 2),)), Plan(((OTHER.program(), 1),)), Plan(())])
def test_different_plans_are_refused(network: Network, theirs: Plan) -> None:
    with pytest.raises(SecureFairError, match=r"announced different plans .* compare their settings"):
        network.run(Plan(((SMALL.program(), 1),)), nothing, nothing, theirs)


def serve(network: Network, plan: bytes, *then: tuple[Kind, bytes, bytes]) -> None:
    """A dealer's session against two parties that send these bodies, developer's and auditor's."""
    developer, from_developer = network.pair("developer", "dealer")
    auditor, from_auditor = network.pair("auditor", "dealer")
    with ThreadPoolExecutor(1) as pool, developer, from_developer, auditor, from_auditor:
        serving = pool.submit(serve_session, from_developer, from_auditor, lambda *_, **__: None)
        for party in (developer, auditor):
            party.send(Kind.PLAN, plan)
        for kind, ours, theirs in then:
            developer.send(kind, ours)
            if kind == Kind.REQUEST:
                auditor.send(kind, theirs)
        serving.result(TIMEOUT)


SQUARE = TupleSpec("square", ((2,),)).encode()


@pytest.mark.parametrize(
    ("plan", "then", "message"),
    [
        (b"not JSON", [], "malformed plan"),
        (Plan(()).encode(), [(Kind.CREDIT, b"123", b"")], "malformed credit"),
        (Plan(()).encode(), [(Kind.REQUEST, SQUARE, SQUARE + b" ")], "asked for different tuples"),
        (Plan(()).encode(), [(Kind.REQUEST, b"[]", b"[]")], "malformed or out of range"),
    ],
    ids=["plan", "credit", "requests differ", "request"],
)
def test_the_dealer_refuses(network: Network, plan: bytes, then: list[tuple[Kind, bytes, bytes]], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        serve(network, plan, *then)


def test_a_credit_beyond_the_plan_deals_the_plan_only(network: Network) -> None:
    developer, from_developer = network.pair("developer", "dealer")
    auditor, from_auditor = network.pair("auditor", "dealer")
    with ThreadPoolExecutor(1) as pool, developer, from_developer, auditor, from_auditor:
        serving = pool.submit(serve_session, from_developer, from_auditor, lambda *_, **__: None)
        for party in (developer, auditor):
            party.send(Kind.PLAN, Plan(((SMALL.program(), 3),)).encode())
        developer.receive(Kind.SEED)
        developer.send(Kind.CREDIT, CREDIT.pack(2**32 - 1))
        for _ in range(3):
            developer.receive(Kind.CORRECTION, size=8 * correction_elements(SMALL.program()))
        for party in (developer, auditor):
            party.send(Kind.END)
        assert serving.result(TIMEOUT) == 3


# plans on the wire


def test_plans_survive_the_wire() -> None:
    plan = Plan(tuple((program, repeats) for repeats, program in enumerate(EVERYTHING, start=1)))
    assert Plan.decode(plan.encode()) == plan
    assert Plan.decode(plan.encode()).digest() == plan.digest()
    assert len(plan) == 6
    assert len(list(plan)) == 6


def changed(path: str, value: Any) -> bytes:
    """A good plan with one value replaced; `path` is dotted."""
    program = StepProgram(
        "p",
        masks={"a": Mask("developer", (2, 3)), "b": Mask("auditor", (3, 4))},
        products={"ab": Product("a", "b", "matmul")},
        sines={"s": Sine((2,), 20, 18, (0.5, 0.25))},
        truncations={"t": Truncation((2,), 8)},
    )
    rows = json.loads(Plan(((program, 1),)).encode())
    *parents, last = path.split(".")
    place = rows[0]
    for key in parents:
        place = place[key]
    place[last] = value
    return json.dumps(rows).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("repeats", 0),
        ("repeats", 2**31 + 1),
        ("repeats", math.inf),
        ("repeats", "1"),
        ("program.masks.a.owner", "nobody"),
        ("program.masks.a.shape", [2, -3]),
        ("program.masks.c", {"owner": "auditor", "shape": [0, 2**70]}),
        ("program.masks.a.shape", [2.0, 3]),
        ("program.masks.a.shape", [2, math.inf]),
        ("program.masks.a.shape", [2]),
        ("program.masks.a.shape", [2, 3, 1]),
        ("program.masks.a.shape", [3, 2]),
        ("program.masks.b.shape", [3, MAX_STEP_ELEMENTS]),
        ("program.masks.a.shape", [2**26, 3]),
        ("program.products.ab.left", "b"),
        ("program.products.ab.left", "unknown"),
        ("program.products.ab.left", ["a"]),
        ("program.products.ab.operation", "exec"),
        ("program.sines.s.phase_bits", 32),
        ("program.sines.s.value_bits", 0),
        ("program.sines.s.coefficients", []),
        ("program.sines.s.coefficients", [math.nan]),
        ("program.sines.s.coefficients", [math.inf]),
        ("program.sines.s.coefficients", [1e300]),
        ("program.sines.s.coefficients", [10**400]),
        ("program.sines.s.shape", [MAX_STEP_ELEMENTS // 2]),
        ("program.truncations.t.shift", 0),
        ("program.truncations.t.shift", 63),
        ("program.truncations.t.shape", [MAX_STEP_ELEMENTS]),
    ],
)
def test_malformed_plans_are_refused(path: str, value: Any) -> None:
    with pytest.raises(ProtocolError):
        Plan.decode(changed(path, value))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["", "a", "developer", "auditor", "matmul", "additive", "conv2d", "padding", "3"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)
PATHS = [
    *(
        "repeats",
        "program",
        "program.name",
        "program.masks",
        "program.products",
        "program.sines",
        "program.truncations",
    ),
    *("program.masks.a", "program.masks.a.shape", "program.masks.c", "program.products.ab", "program.sines.s"),
    *("program.sines.s.shape", "program.sines.s.coefficients", "program.truncations.t", "program.truncations.t.shift"),
]


def only_protocol_errors(decode: Any, payload: bytes) -> Any:
    try:
        return decode(payload)
    except ProtocolError:
        return None


@given(payload=st.binary(max_size=64) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_plan_or_refused(payload: bytes) -> None:
    only_protocol_errors(Plan.decode, payload)
    only_protocol_errors(TupleSpec.decode, payload)


@given(path=st.sampled_from(PATHS), value=JSON)
def test_any_change_of_a_plan_is_a_plan_or_refused(path: str, value: Any) -> None:
    plan = only_protocol_errors(Plan.decode, changed(path, value))
    if plan is not None:
        for program, _ in plan.runs:
            assert correction_elements(program) <= MAX_STEP_ELEMENTS
            json.loads(plan.encode())


@pytest.mark.parametrize("decoder", [Plan.decode, TupleSpec.decode])
def test_deep_nesting_is_refused(decoder: Any) -> None:
    with pytest.raises(ProtocolError):
        decoder(b"[" * 4000 + b"]" * 4000)


# tuples for CrypTen's own operations

SPECS = [
    TupleSpec("additive", ((2, 3), (3,)), "mul"),
    TupleSpec("additive", ((5, 2, 3), (3, 4)), "matmul"),
    TupleSpec("additive", ((1, 2, 5), (3, 2, 3)), "conv1d", (("padding", 1), ("stride", 2))),
    TupleSpec("additive", ((1, 2, 5, 5), (3, 2, 3, 3)), "conv2d", (("padding", (1, 0)),)),
    TupleSpec("additive", ((1, 2, 5), (2, 3, 3)), "conv_transpose1d"),
    TupleSpec("additive", ((1, 2, 5, 5), (2, 3, 3, 3)), "conv_transpose2d", (("groups", 1),)),
    TupleSpec("square", ((2, 3),)),
    TupleSpec("binary", ((2, 1), (1, 3))),
    TupleSpec("wraps", ((50,),)),
    TupleSpec("bit", ((50,),)),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.kind}-{s.operation}")
def test_tuples_are_what_they_promise(spec: TupleSpec) -> None:
    assert TupleSpec.decode(spec.encode()) == spec
    dealt = deal_tuple(spec.encode(), *generators())
    developer, auditor = generators()
    ours, theirs = spec.draw(developer), spec.draw(auditor)
    size = spec.derived_size()
    share = auditor.ring(size)
    derived = (dealt.reshape(size) ^ share) if spec.kind == "binary" else dealt.reshape(size) + share
    if spec.kind == "additive":
        inputs = [a + b for a, b in zip(ours, theirs, strict=True)]
        assert torch.equal(derived, getattr(torch, spec.operation)(*inputs, **dict(spec.options)))
    elif spec.kind == "square":
        assert torch.equal(derived, (ours[0] + theirs[0]) ** 2)
    elif spec.kind == "binary":
        assert torch.equal(derived, (ours[0] ^ theirs[0]) & (ours[1] ^ theirs[1]))
    elif spec.kind == "bit":
        assert torch.equal(derived, ours[0] ^ theirs[0])
        assert set(derived.tolist()) == {0, 1}
    else:
        whole = [a + b for a, b in zip(ours[0].tolist(), theirs[0].tolist(), strict=True)]
        assert derived.tolist() == [(value + 2**63) // 2**64 for value in whole]


@given(left=st.integers(-(2**63), 2**63 - 1), right=st.integers(-(2**63), 2**63 - 1))
def test_wraps_are_counted(left: int, right: int) -> None:
    assert int(signed_wraps(torch.tensor([left]), torch.tensor([right]))) == (left + right + 2**63) // 2**64


def request(
    *, kind: Any = "additive", sizes: Any = ((2, 2), (2, 2)), operation: Any = "matmul", options: Any = ()
) -> bytes:
    return json.dumps([kind, sizes, operation, options]).encode()


@pytest.mark.parametrize(
    "payload",
    [
        request(kind="eval"),
        request(kind=["additive"]),
        request(operation="load"),
        request(operation=None),
        request(sizes=[[2, 2]]),
        request(sizes=[[2, 2], [3, 2]]),
        request(sizes=[[2, -2], [2, 2]]),
        request(sizes=[[2, 2.0], [2, 2]]),
        request(sizes=[[2, math.inf], [2, 2]]),
        request(sizes=[[2**14, 1], [1, 2**14]]),
        request(kind="square", sizes=[[0, 2**40, 2**40]]),
        request(sizes=[[2**40], [2**40]], operation="mul"),
        request(sizes=[[2**26, 1], [1, 2**26]], operation="mul"),
        request(options=[["out", 1]]),
        request(kind="square", sizes=[[2]], options=[["padding", 1]]),
        request(sizes=[[1, 1, 5], [1, 1, 3]], operation="conv1d", options=[["stride", 0]]),
        request(sizes=[[1, 1, 5], [1, 1, 3]], operation="conv1d", options=[["groups", 0]]),
        request(sizes=[[1, 1, 5], [1, 1, 3]], operation="conv1d", options=[["padding", -1]]),
        request(sizes=[[1, 1, 5], [1, 1, 3]], operation="conv1d", options=[["padding", "same"]]),
        request(sizes=[[1, 1, 5], [1, 1, 3]], operation="conv1d", options=[["device", "cuda"]]),
        request(sizes=[[9, 9, 5], [9, 9, 3]], operation="conv1d", options=[["padding", 2**30]]),
        request(sizes=[[1, 1, 5, 5], [1, 1, 9, 9]], operation="conv2d"),
    ],
)
def test_malformed_tuple_requests_are_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        TupleSpec.decode(payload)


@given(
    sizes=st.lists(st.lists(st.integers(0, 5) | st.sampled_from([-1, 2**30]), max_size=5), min_size=1, max_size=2),
    kind=st.sampled_from(["additive", "square", "binary", "wraps", "bit"]),
    operation=st.sampled_from(["mul", "matmul", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"]),
    options=st.dictionaries(
        st.sampled_from(["padding", "stride", "dilation", "groups", "output_padding"]),
        st.integers(-1, 4) | st.lists(st.integers(0, 3), max_size=3),
        max_size=2,
    ),
)
def test_what_is_not_refused_is_dealt(sizes: Any, kind: str, operation: str, options: dict[str, Any]) -> None:
    payload = request(kind=kind, sizes=sizes, operation=operation, options=list(options.items()))
    spec = only_protocol_errors(TupleSpec.decode, payload)
    if spec is not None:
        assert deal_tuple(payload, *generators()).numel() == spec.derived_size().numel()


# encoding


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2.0**46, -(2.0**46), 1e30])
def test_values_that_fixed_point_cannot_hold_are_refused(value: float) -> None:
    with pytest.raises(ProtocolError, match="not finite or too large"):
        encode(torch.tensor([0.0, value]))


@given(value=st.floats(-(2.0**45), 2.0**45), bits=st.integers(0, 16))
def test_encoding_rounds_to_the_nearest(value: float, bits: int) -> None:
    assert abs(float(decode(encode(torch.tensor([value], dtype=torch.float64), bits), bits)) - value) <= 2.0 ** -(
        bits + 1
    )
