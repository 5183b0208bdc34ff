"""Steps of growing size in one session, and a moment over more and more records, each in fresh processes."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import environment, processes, secure_steps
from benchmarks.primitives.ours import WARM_UP
from benchmarks.processes import Job
from benchmarks.secure_steps import StepShape
from secure_fair.files import write_json
from secure_fair.mpc.dealing.correlations import Role, correction_elements
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.protocols.moment import MomentShape, auditor_moment, developer_moment
from secure_fair.transport.wire import HEADER

VERSION = 1
BASE = {"n": 64, "d": 768, "k": 2}
GROWTH = {"n": (16, 64, 256, 1024), "d": (96, 192, 768, 1024), "k": (2, 4, 8, 16)}
RECORDS = (10_000, 40_000, 160_000)
WIDTH, BLOCK = 768, 2048
CHECKED = 64  # rows of the moment that are compared with the plaintext
MEMORY_LIMIT = 2 * 10**9
COLUMNS = ("op", "n", "d", "K", "ms (least to most)", "bytes sent", "bytes received", "offline", "over floor", "memory")
Row = dict[str, Any]
Floats = npt.NDArray[np.float32]


def make(repetitions: int, records: Sequence[int], out: Path, progress: Any) -> dict[str, Any]:
    """Measure, write OUT/scaling.json and return what it holds."""
    progress("steps: running")
    rows = list(steps(shapes(), repetitions))
    for number in records:
        progress(f"moment over {number} records: running")
        rows.append(moment(number))
    found = {"version": VERSION, "rows": rows, "claims": claims(rows), "environment": environment.describe()}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "scaling.json", found)
    return found


def shapes() -> list[StepShape]:
    """Each method at the base sizes with one of them grown."""
    sizes = [{**BASE, name: value} for name, values in GROWTH.items() for value in values]
    return list(dict.fromkeys(StepShape(name, **size) for name in secure_steps.METHODS for size in sizes))


def steps(wanted: Sequence[StepShape], repetitions: int) -> Iterator[Row]:
    """A row for each shape."""
    sequence = [shape for shape in wanted for _ in range(repetitions + WARM_UP)]
    jobs: dict[Role, Job] = {
        "developer": functools.partial(_develop, tuple(wanted), repetitions),
        "auditor": functools.partial(_audit, sequence),
    }
    outcomes = processes.run(secure_steps.plan(sequence), jobs)
    for shape, row in zip(wanted, outcomes["developer"].result, strict=True):
        yield {
            "op": shape.name,
            "n": shape.n,
            "d": shape.d,
            "k": shape.k,
            **row,
            "offline_bytes": 8 * correction_elements(shape.program()),
            "floor_bytes": shape.floor_bytes(),
            "memory_developer": None,
            "memory_auditor": None,
        }


def _develop(wanted: Sequence[StepShape], repetitions: int, party: Party) -> list[Row]:
    peer = party.peer
    rows = []
    for shape in wanted:
        term = secure_steps.term(shape, party)
        ms = []
        for repetition in range(repetitions + WARM_UP):
            if repetition == WARM_UP:
                before = peer.bytes_sent, peer.bytes_received
            ms.append(1000 * secure_steps.exposed_seconds(term, shape, 0.0))
        sent, received = peer.bytes_sent - before[0], peer.bytes_received - before[1]
        ms = ms[WARM_UP:]
        times = {"ms_median": statistics.median(ms), "ms_min": min(ms), "ms_max": max(ms)}
        rows.append({"bytes_sent": sent / repetitions, "bytes_received": received / repetitions, **times})
    return rows


def _audit(sequence: Sequence[StepShape], party: Party) -> None:
    most = max(shape.n for shape in sequence)
    tables = {shape.k: secure_steps.attributes(most, shape.k) for shape in sequence}
    for k, part in _runs(sequence):
        secure_steps.follow(part, tables[k], party)


def _runs(sequence: Sequence[StepShape]) -> Iterator[tuple[int, list[StepShape]]]:
    """Consecutive steps of one shape: a term and its weights live as long as these."""
    part: list[StepShape] = []
    for shape in sequence:
        if part and shape != part[0]:
            yield part[0].k, part
            part = []
        part.append(shape)
    yield part[0].k, part


def _moment(records: int) -> MomentShape:
    return MomentShape(WIDTH, 1, 1, records, BLOCK)


def features(records: int) -> Floats:
    """[records, WIDTH] in float32, as a developer holds them; multiples of 2^-16, row norms about 1."""
    drawn = np.random.default_rng(records)
    result = np.empty((records, WIDTH), dtype=np.float32)
    for rows in np.array_split(result, max(1, records // BLOCK)):
        rows[...] = drawn.integers(-4096, 4096, rows.shape, dtype=np.int16)
    result /= 2.0**16
    return result


def moment(records: int) -> Row:
    """A row for a moment over so many records; `max_error` is that of its first CHECKED rows."""
    shape = _moment(records)
    jobs: dict[Role, Job] = {
        "developer": functools.partial(_develop_moment, records),
        "auditor": functools.partial(_audit_moment, records),
    }
    outcomes = processes.run(shape.plan(), jobs)
    developer, auditor = outcomes["developer"], outcomes["auditor"]
    measured, opened = developer.result
    t = secure_steps.attributes(records, 2)[:, 1:].numpy()
    true = features(records)[:, :CHECKED].astype(np.float64).T @ t
    ms = measured.pop("ms")
    offline = sum(8 * correction_elements(program) + HEADER.size for program in shape.plan())
    return {
        "op": "moment",
        "n": records,
        "d": WIDTH,
        "k": 2,
        **measured,
        **dict.fromkeys(("ms_median", "ms_min", "ms_max"), ms),
        "max_error": float(np.abs(opened[:CHECKED] - true).max()),
        "offline_bytes": offline,
        "floor_bytes": shape.floor_bytes,
        "memory_developer": developer.memory_peak,
        "memory_auditor": auditor.memory_peak,
        "memory_imports": [developer.memory_at_start, auditor.memory_at_start],
    }


def _develop_moment(records: int, party: Party) -> tuple[Row, npt.NDArray[np.float64]]:
    u, peer = features(records), party.peer
    blocks = (
        (torch.from_numpy(np.rint(u[i : i + BLOCK] * 2.0**16).astype(np.int64)), None) for i in range(0, records, BLOCK)
    )
    before, began = (peer.bytes_sent, peer.bytes_received), time.perf_counter()
    opened = developer_moment(party, _moment(records), blocks, lambda _: None)
    ms = 1000 * (time.perf_counter() - began)
    sent, received = peer.bytes_sent - before[0], peer.bytes_received - before[1]
    return {"ms": ms, "bytes_sent": sent, "bytes_received": received}, opened.numpy() / 2.0**16


def _audit_moment(records: int, party: Party) -> None:
    t = secure_steps.attributes(records, 2)[:, 1:]
    auditor_moment(party, _moment(records), t.split(BLOCK), lambda share: share)


def claims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Of the largest moment."""
    moments = [row for row in rows if row["op"] == "moment"]
    if not moments:
        return []
    row = max(moments, key=lambda each: int(each["n"]))
    name = f"moment over {row['n']} x {row['d']}"
    over = (row["bytes_sent"] + row["bytes_received"]) / row["floor_bytes"]
    checks = [(f"{name}: bytes over the floor, at most", 1.2, over)]
    checks += [
        (f"{name}: peak memory of the {role} in bytes, at most", MEMORY_LIMIT, row[f"memory_{role}"])
        for role in processes.ROLES
    ]
    return [
        {"text": text, "limit": limit, "measured": measured, "met": measured <= limit}
        for text, limit, measured in checks
    ]


def lines(found: dict[str, Any]) -> list[Sequence[str]]:
    """Cells of COLUMNS."""
    return [
        (
            row["op"],
            f"{row['n']:,}",
            str(row["d"]),
            str(row["k"]),
            f"{row['ms_median']:.3g} ({row['ms_min']:.3g} to {row['ms_max']:.3g})",
            *(f"{row[key]:,.0f}" for key in ("bytes_sent", "bytes_received", "offline_bytes")),
            f"{(row['bytes_sent'] + row['bytes_received']) / row['floor_bytes']:.3f}",
            _memory(row),
        )
        for row in found["rows"]
    ]


def _memory(row: Row) -> str:
    if row["memory_developer"] is None:
        return ""
    return f"{row['memory_developer'] / 2**20:.0f} and {row['memory_auditor'] / 2**20:.0f} MiB"
