"""The model of a link that `bench network` prints, and its claims."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.network import study as network
from benchmarks.network.relay import Link


def measured(op: str, ms: list[float], *, overlap: bool) -> dict[str, Any]:
    rounds = 3 if op == "adv" else 2
    counted = {"rounds": rounds, "bytes_sent": 500_000, "bytes_received": 500_000, "floor_bytes": 1_000_000}
    return {"op": op, "overlap": overlap, "ms": ms, **counted}


def test_the_model_is_rounds_bytes_and_compute() -> None:
    """Overlap hides one of ORTH's two rounds and one of ADV's three; the floor has two."""
    near, far = network.LINKS[0], Link("far", 0.05, 100e6)
    rows = [network.row(near, measured(op, [4.0, 5.0, 9.0], overlap=True), []) for op in ("orth-odds", "adv")]
    assert [row["model_ms"] for row in rows] == [5.0, 5.0]
    assert network.row(far, measured("orth-odds", [1.0], overlap=True), rows)["model_ms"] == pytest.approx(50 + 80 + 5)
    assert network.row(far, measured("adv", [1.0], overlap=True), rows)["model_ms"] == pytest.approx(100 + 80 + 5)
    assert network.row(far, measured("adv", [1.0], overlap=False), rows)["floor_ms"] == pytest.approx(100 + 80)


def test_a_wait_above_the_limit_is_told() -> None:
    """2 * 50 ms, and 2 * 64 * 768 numbers of 8 bytes at 100 Mbit/s: 162.9 ms."""
    slowest = network.LINKS[-1]
    sizes = {"n": 64, "d": 768}
    rows = [
        network.row(slowest, measured(op, [ms], overlap=True) | sizes, [])
        for op, ms in (("adv", 163.0), ("orth", 162.9))
    ]
    assert [claim["met"] for claim in network.claims(rows)] == [False, True]
