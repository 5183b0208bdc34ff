"""`bench scaling`, `overhead` and the transports at small sizes: real processes, counted bytes, exact moments."""

from __future__ import annotations

import pytest

from benchmarks.network import tls
from benchmarks.overhead import study as overhead
from benchmarks.scaling import study as scaling
from benchmarks.secure_steps import METHODS, StepShape
from secure_fair.transport.wire import HEADER

pytestmark = pytest.mark.timeout(400)  # processes start from nothing, maybe on a busy machine


def test_steps_have_the_bytes_of_the_protocol() -> None:
    """docs/protocols.md, section 4: what crosses the wire in a step, with its announcement."""
    shapes = [StepShape(name, 16, 24, 2) for name in METHODS]
    rows = {row["op"]: row for row in scaling.steps(shapes, repetitions=2)}
    n, d, k, c, j = 16, 24, 2, 2, 1
    wide, announced = d + 1, 28 + 4 * n
    sent = {
        "orth-parity": 4 * (n * wide + wide * k) + 2 * HEADER.size,
        "orth-odds": 4 * (n * wide + n * c + wide * c * k + n * c * k) + 3 * HEADER.size,
        "adv": 8 * (n * (d + c) + 2 * (d + c) * j + n * j) + 3 * n * j + 6 * HEADER.size,
    }
    for op, row in rows.items():
        assert row["bytes_sent"] == sent[op] + announced, op
        assert 0 < row["ms_min"] <= row["ms_median"] <= row["ms_max"]


def test_a_moment_is_exact_and_its_memory_is_measured() -> None:
    row = scaling.moment(2500)
    assert row["max_error"] == 0.0
    assert row["bytes_sent"] + row["bytes_received"] <= 1.01 * row["floor_bytes"]
    for role, imports in zip(("developer", "auditor"), row["memory_imports"], strict=True):
        assert imports <= row[f"memory_{role}"] < scaling.MEMORY_LIMIT
    assert [claim["met"] for claim in scaling.claims([row])] == [True] * 3


def test_every_arm_takes_its_steps() -> None:
    """A small ViT: the plaintext twin's ratio is 1 by definition, and only secure arms wait for the auditor."""
    rows = list(overhead.arms(overhead.Task("vit_tiny_patch16_224", 2, 2, "cpu")))
    assert [(row["method"], row["release"]) for row in rows] == [(arm.method, arm.release) for arm in overhead.ARMS]
    for row in rows:
        secure = row["release"] == "gradient"
        assert (row["arm"] == "secure") is secure
        assert (row["exposed_ms_min"] > 0) is secure
        assert (row["bytes_sent"] > 0) is secure
        assert row["seconds_min"] > 0
        if row["release"] == "none":
            assert row["ratio_min"] == row["ratio_max"] == 1.0


def test_both_transports_answer() -> None:
    """In the same processes, in turns; that TLS costs time is measured elsewhere."""
    rows = tls.rows((16, 3000), repetitions=10)
    assert [row["numbers"] for row in rows] == [16, 3000]
    for row in rows:
        assert 0 < row["tls_ms_low"] <= row["tls_ms_median"] <= row["tls_ms_high"]
        assert row["ratio"] == pytest.approx(row["tls_ms_median"] / row["gloo_ms_median"])
