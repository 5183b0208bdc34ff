"""Tuples for CrypTen's own operations, and the fixed point that they are multiplied in."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secure_fair.errors import ProtocolError
from secure_fair.mpc.dealing.tuples import TupleSpec, deal_tuple, signed_wraps
from secure_fair.mpc.engine.sharing import decode, encode
from tests.mpc.small_plans import generators
from tests.mpc.test_plans import only_protocol_errors

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
