"""Plans: both parties announce the same, the dealer refuses what is none, and any bytes from the wire are judged."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_fair.errors import ProtocolError, SecureFairError
from secure_fair.mpc.dealing.correlations import correction_elements
from secure_fair.mpc.dealing.plan import (
    MAX_STEP_ELEMENTS,
    Mask,
    Plan,
    Product,
    Sine,
    StepProgram,
    Truncation,
)
from secure_fair.mpc.dealing.server import serve_session
from secure_fair.mpc.dealing.source import CREDIT
from secure_fair.mpc.dealing.tuples import TupleSpec
from secure_fair.mpc.kinds import Kind
from tests.mpc.small_plans import EVERYTHING, OTHER, SMALL, nothing
from tests.mpc.three_threads import TIMEOUT, Network

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
