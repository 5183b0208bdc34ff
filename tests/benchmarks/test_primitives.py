"""`bench primitives`: what is computed, how claims are judged, our rows from real processes, and peers that fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from benchmarks.peers import environments
from benchmarks.peers.environments import PEERS, Peer, ask
from benchmarks.primitives import claims, ours
from benchmarks.primitives.cases import CLASSES, Case, cases, expected
from secure_fair.fairness import objectives
from secure_fair.transport.wire import HEADER

SMALL = [Case(op, 16, 8, 2, repetitions=2) for op in ("adv", "orth-parity", "orth-odds", "product")]
SMALL.append(Case("sigmoid", 40, repetitions=2))


def test_expected_results_are_the_objectives() -> None:
    adv, parity, odds = (each.inputs() for each in SMALL[:3])
    u, w, t = (torch.from_numpy(adv[name]) for name in ("u", "w", "t"))
    assert np.allclose(expected("adv", adv), objectives.adversary_gradients(u, w, t)[0][:, :-1])
    h, onehot = torch.from_numpy(parity["h"]), torch.from_numpy(parity["t"])
    assert np.allclose(expected("orth-parity", parity), objectives.orth_gradient_sum_scale(h[:, :-1], onehot, None))
    h, onehot, y = (torch.from_numpy(odds[name]) for name in ("h", "t", "y"))
    assert y.shape[1] == CLASSES
    plain = objectives.orth_gradient_sum_scale(h[:, :-1], onehot, y.argmax(dim=1))
    assert np.allclose(expected("orth-odds", odds), plain)


def test_our_rows() -> None:
    """Exact where the ring is exact; bytes of the floor and above; every repetition is one step of the protocol."""
    for case, (row, result) in zip(SMALL, ours.measure(SMALL), strict=True):
        error = float(np.abs(result - expected(case.op, case.inputs())).max())
        assert error <= {"adv": 1e-3, "sigmoid": 1e-4}.get(case.op, 1e-12), case
        assert len(row["ms"]) == 2
        assert row["rounds"] == {"sigmoid": 1, "product": 1, "adv": 3}.get(case.op, 2)
        if case.op == "sigmoid":
            assert row["bytes_sent"] == row["bytes_received"] == 3 * case.n + HEADER.size
        if case.floor_bytes is not None:
            assert row["bytes_sent"] + row["bytes_received"] >= case.floor_bytes


def row(op: str, system: str, ms: float | None = 1.0, **more: Any) -> dict[str, Any]:
    case = next(case for case in cases() if case.op == op)
    counted = {"rounds": 1, "bytes_sent": 8, "bytes_received": 8, "floor_bytes": case.floor_bytes, "max_error": 0.0}
    named = {"op": op, "system": system, "variant": None, "n": case.n, "ms_median": ms, "reason": None}
    return {**named, **counted, **more}


def test_claims_are_met_missed_or_not_measured() -> None:
    rows = [row("adv", "secure-fair", 10.0, rounds=5), row("adv", "spu", 41.0)]
    rows.append(row("orth-parity", "secure-fair", bytes_sent=0, bytes_received=1_100_000))
    rows.append(row("adv", "crypten-ttp", 119.0, variant="autograd"))
    rows.append(row("adv", "crypten-tfp", None, variant="autograd", reason="not runnable, because"))
    rows.append(row("sigmoid", "secure-fair", max_error=1.1e-4))
    verdicts = {claim.text: claim.met for claim in claims.check(rows)}
    assert verdicts["adv: rounds, at most"] is False
    assert verdicts["adv: times faster than spu, at least"] is True
    assert verdicts["adv: times faster than crypten-ttp (autograd), at least"] is False
    assert verdicts["adv: times faster than crypten-tfp (autograd), at least"] is None
    assert verdicts["orth-parity: bytes over the floor, at most"] is False
    assert verdicts["orth-odds: rounds, at most"] is None
    assert verdicts["sigmoid of 64: largest error over the range, at most"] is False


def test_a_peer_that_cannot_run_gives_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_HERE", tmp_path)
    (tmp_path / "broken.py").write_text("import sys\nprint('starting')\nsys.exit('no such protocol')\n")
    python = tmp_path / "venv-broken" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(psutil.Process().exe())
    (tmp_path / "venv-broken" / "requirements.txt").write_text("nothing==1")
    answer = ask(Peer("broken", "broken.py", (), ("nothing==1",)), tmp_path, tmp_path, 20.0, lambda _: None)
    assert answer.reason == "not runnable, because no such protocol"
    assert not answer.rows


def test_a_peer_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the processes that it has started."""
    monkeypatch.setattr(environments, "_HERE", tmp_path)
    child = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    (tmp_path / "stuck.py").write_text(child + "time.sleep(60)\n")
    python = tmp_path / "venv-stuck" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(psutil.Process().exe())
    (tmp_path / "venv-stuck" / "requirements.txt").write_text("nothing==1")
    answer = ask(Peer("stuck", "stuck.py", (), ("nothing==1",)), tmp_path, tmp_path, 2.0, lambda _: None)
    assert answer.reason == "not runnable, because it did not end within 2 s"


def test_peers_have_environments_of_their_own() -> None:
    """A system that is not part of ours is installed, in an exact version, elsewhere."""
    assert [peer.system for peer in PEERS if not peer.requirements] == ["crypten-tfp", "crypten-ttp"]
    assert all("==" in requirement for peer in PEERS for requirement in peer.requirements)
