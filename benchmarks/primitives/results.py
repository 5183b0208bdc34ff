"""The rows of every system, what they must show, and OUT/primitives.json."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environment
from benchmarks.peers.environments import PEERS, Progress, ask
from benchmarks.primitives import claims, ours
from benchmarks.primitives.cases import Case, Floats, cases, expected
from secure_fair.files import write_json

VERSION = 1
PEER_SECONDS = 240.0
COLUMNS = ("op", "n", "system", "ms (least to most)", "rounds", "bytes sent", "bytes received", "offline", "max error")
Row = dict[str, Any]


def make(systems: Sequence[str], repetitions: int, work: Path, out: Path, progress: Progress) -> dict[str, Any]:
    """Run the systems one after the other on the same inputs; write OUT/primitives.json and return what it holds.

    Ours runs before and after the others, half of the repetitions each time: a machine that is busier at one of the two
    times does not decide a comparison.
    """
    chosen = cases(repetitions)
    task = work.resolve() / "task"
    task.mkdir(parents=True, exist_ok=True)
    (task / "cases.json").write_text(json.dumps([case.to_json() for case in chosen]))
    inputs = [case.inputs() for case in chosen]
    arrays: dict[str, Any] = {f"{i}/{name}": value for i, each in enumerate(inputs) for name, value in each.items()}
    np.savez(task / "inputs.npz", **arrays)
    truth = [expected(case.op, each) for case, each in zip(chosen, inputs, strict=True)]
    rows: list[Row] = []
    peers: dict[str, Any] = {}
    halves = [cases(repetitions - repetitions // 2), cases(max(1, repetitions // 2))]
    if ours.SYSTEM in systems:
        progress(f"{ours.SYSTEM}: running")
        before = ours.measure(halves[0])
    for peer in PEERS:
        if peer.system not in systems:
            continue
        answer = ask(peer, work.resolve(), task, PEER_SECONDS, progress)
        peers[peer.system] = {"versions": answer.versions, "notes": answer.notes, "reason": answer.reason}
        if answer.reason is not None:
            rows += [_absent(case, peer.system, answer.reason) for case in chosen]
        for row, array in zip(answer.rows, answer.results, strict=True):
            index = row["case"]
            if row["reason"]:
                rows.append(_absent(chosen[index], peer.system, row["reason"]))
            else:
                rows.append(_row(chosen[index], peer.system, row, array, truth[index]))
    if ours.SYSTEM in systems:
        progress(f"{ours.SYSTEM}: running once more")
        for case, true, (first, _), (measured, result) in zip(
            chosen, truth, before, ours.measure(halves[1]), strict=True
        ):
            rows.append(_row(case, ours.SYSTEM, {**measured, "ms": first["ms"] + measured["ms"]}, result, true))
    operations, order = [case.op for case in chosen], [ours.SYSTEM, *(peer.system for peer in PEERS)]
    rows.sort(key=lambda row: (operations.index(row["op"]), row["n"], order.index(row["system"])))
    found = {
        "version": VERSION,
        "rows": rows,
        "claims": [claim.to_json() for claim in claims.check(rows)],
        "peers": peers,
        "environment": environment.describe(),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "primitives.json", found)
    return found


def _row(case: Case, system: str, measured: Mapping[str, Any], result: Floats, true: Floats) -> Row:
    ms = measured["ms"]
    return {
        "op": case.op,
        "system": system,
        "variant": measured["variant"],
        "n": case.n,
        "d": case.d,
        "k": case.k,
        "rounds": measured["rounds"],
        "bytes_sent": measured["bytes_sent"],
        "bytes_received": measured["bytes_received"],
        "offline_bytes": measured["offline_bytes"],
        "floor_bytes": case.floor_bytes,
        "ms_median": statistics.median(ms),
        "ms_min": min(ms),
        "ms_max": max(ms),
        "repetitions": len(ms),
        "max_error": float(np.abs(result - true).max()),
        "reason": None,
    }


def _absent(case: Case, system: str, reason: str) -> Row:
    numbers = ("rounds", "bytes_sent", "bytes_received", "offline_bytes", "ms_median", "ms_min", "ms_max", "max_error")
    known = {"op": case.op, "system": system, "variant": None, "n": case.n, "d": case.d, "k": case.k}
    return {
        **known,
        **dict.fromkeys(numbers),
        "floor_bytes": case.floor_bytes,
        "repetitions": 0,
        "reason": reason,
    }


def lines(result: Mapping[str, Any]) -> list[Sequence[str]]:
    """Cells of COLUMNS."""
    shown: list[Sequence[str]] = []
    for row in result["rows"]:
        system = row["system"] + (f", {row['variant']}" if row["variant"] else "")
        start = (row["op"], str(row["n"]), system)
        if row["reason"]:
            shown.append((*start, row["reason"], "", "", "", "", ""))
            continue
        times = f"{row['ms_median']:.3g} ({row['ms_min']:.3g} to {row['ms_max']:.3g})"
        counts = [_whole(row[key]) for key in ("rounds", "bytes_sent", "bytes_received", "offline_bytes")]
        shown.append((*start, times, *counts, f"{row['max_error']:.1e}"))
    return shown


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
