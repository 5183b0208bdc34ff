"""Steps and a moment over each link, beside what the link's delay and bandwidth alone would take."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from benchmarks import environment, processes, secure_steps
from benchmarks.network.relay import Link, relayed
from benchmarks.primitives.ours import WARM_UP
from benchmarks.processes import Job, Outcome
from benchmarks.secure_steps import StepShape
from secure_fair.files import write_json
from secure_fair.mpc.dealing.correlations import Role
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.protocols.moment import MomentShape, auditor_moment, developer_moment

VERSION = 1
LINKS = (
    Link("loopback", 0.0, float("inf")),
    Link("1 ms, 1 Gbit/s", 0.001, 1e9),
    Link("20 ms, 200 Mbit/s", 0.020, 200e6),
    Link("50 ms, 100 Mbit/s", 0.050, 100e6),
)
N, D, K, MOMENT_RECORDS, MOMENT_BLOCK = 64, 768, 2, 4096, 512
NAMES = tuple(secure_steps.METHODS)
HIDDEN_ROUNDS = {"orth-parity": 1, "orth-odds": 1, "adv": 1}  # those of a step that need no representation
FLOOR_ROUNDS = 2  # of a step: hiding one more does not raise the floor
COLUMNS = ("link", "op", "forward pass", "ms waited (least to most)", "model ms", "floor ms", "rounds", "bytes")
Row = dict[str, Any]


def make(repetitions: int, forward_seconds: float, out: Path, progress: Any) -> dict[str, Any]:
    """Measure, write OUT/network.json and return what it holds."""
    rows: list[Row] = []
    for link in LINKS:
        progress(f"{link.name}: running")
        rows += _link(link, repetitions, forward_seconds, rows)
    found = {
        "version": VERSION,
        "rows": rows,
        "claims": claims(rows),
        "forward_pass": f"a pause of {forward_seconds:g} s",
        "environment": environment.describe(),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "network.json", found)
    return found


def _sequence(repetitions: int) -> list[tuple[StepShape, bool]]:
    """Every kind of step with and without a forward pass to hide behind."""
    kinds = [(StepShape(name, N, D, K), hidden) for name in NAMES for hidden in (False, True)]
    return [kind for kind in kinds for _ in range(repetitions + WARM_UP)]


def _moment() -> MomentShape:
    return MomentShape(D, 1, 1, MOMENT_RECORDS, MOMENT_BLOCK)


def _link(link: Link, repetitions: int, forward_seconds: float, before: Sequence[Row]) -> Iterator[Row]:
    shapes = [shape for shape, _ in _sequence(repetitions)]
    whole = Plan((*secure_steps.plan(shapes).runs, *_moment().plan().runs))
    jobs: dict[Role, Job] = {
        "developer": functools.partial(_developer, repetitions, forward_seconds),
        "auditor": functools.partial(_auditor, shapes),
    }
    with ExitStack() as stack:

        def route(address: str) -> str:
            return address if link.round_trip == 0 else stack.enter_context(relayed(link, address))

        outcomes: dict[Role, Outcome] = processes.run(whole, jobs, route)
    for measured in outcomes["developer"].result:
        yield row(link, measured, before)


def row(link: Link, measured: Row, before: Sequence[Row]) -> Row:
    """What was measured over a link, with the model; `before` has the rows over loopback, which tell the compute."""
    ms = measured["ms"]
    median = statistics.median(ms)
    key = (measured["op"], measured["overlap"])
    alone = [each["ms_median"] for each in before if (each["link"], each["op"], each["overlap"]) == ("loopback", *key)]
    compute = alone[0] if alone else median
    total = measured["bytes_sent"] + measured["bytes_received"]
    waited = measured["rounds"] - (HIDDEN_ROUNDS.get(measured["op"], 0) if measured["overlap"] else 0)
    return {
        "link": link.name,
        "round_trip_ms": 1000 * link.round_trip,
        "bits_per_second": link.bits_per_second if link.round_trip else None,
        **{name: value for name, value in measured.items() if name != "ms"},
        "ms_median": median,
        "ms_min": min(ms),
        "ms_max": max(ms),
        "repetitions": len(ms),
        "model_ms": 1000 * link.seconds(waited, total) + compute,
        "floor_ms": 1000 * link.seconds(min(measured["rounds"], FLOOR_ROUNDS), measured["floor_bytes"]),
    }


def _developer(repetitions: int, forward_seconds: float, party: Party) -> list[Row]:
    rows: list[Row] = []
    terms: dict[str, Any] = {}
    sequence = _sequence(repetitions)
    for start in range(0, len(sequence), repetitions + WARM_UP):
        shape, hidden = sequence[start]
        if shape.name not in terms:
            terms[shape.name] = secure_steps.term(shape, party)
        ms: list[float] = []
        for repetition in range(repetitions + WARM_UP):
            if repetition == WARM_UP:
                counted = _Counted(party)
            pause = forward_seconds if hidden else 0.0
            ms.append(1000 * secure_steps.exposed_seconds(terms[shape.name], shape, pause))
        sizes = {"n": N, "d": D, "k": K, "floor_bytes": shape.floor_bytes(), "overlap": hidden}
        rows.append({"op": shape.name, **sizes, "ms": ms[WARM_UP:], **counted.each(repetitions)})
    return [*rows, _developer_moment(party)]


def _developer_moment(party: Party) -> Row:
    shape, counted = _moment(), _Counted(party)
    u = torch.randint(-256, 256, (MOMENT_RECORDS, D))
    began = time.perf_counter()
    blocks = ((part, None) for part in u.split(MOMENT_BLOCK))
    developer_moment(party, shape, blocks, lambda _: None)
    ms = [1000 * (time.perf_counter() - began)]
    sizes = {"n": MOMENT_RECORDS, "d": D, "k": K, "floor_bytes": shape.floor_bytes, "overlap": False}
    return {"op": "moment", **sizes, "ms": ms, **counted.each(1), "rounds": 1}


def _auditor(shapes: Sequence[StepShape], party: Party) -> None:
    secure_steps.follow(shapes, secure_steps.attributes(N, K), party)
    t = secure_steps.attributes(MOMENT_RECORDS, K)[:, 1:]
    auditor_moment(party, _moment(), t.split(MOMENT_BLOCK), lambda share: share)


class _Counted:
    """Rounds and bytes since it was made."""

    def __init__(self, party: Party) -> None:
        self._peer = party.peer
        self._before = self._now()

    def _now(self) -> tuple[int, int, int]:
        return self._peer.rounds, self._peer.bytes_sent, self._peer.bytes_received

    def each(self, repetitions: int) -> dict[str, float]:
        names = ("rounds", "bytes_sent", "bytes_received")
        spent = [(now - then) / repetitions for now, then in zip(self._now(), self._before, strict=True)]
        return dict(zip(names, spent, strict=True))


def claims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Over the slowest link, with overlap: what a step waits is within two rounds and a copy of H each way.

    At 8 bytes a number, CrypTen's ring: the limit stays where it is when a protocol sends less.
    """
    slowest = LINKS[-1]
    found = []
    for row in rows:
        if row["link"] == slowest.name and row["overlap"]:
            limit = 1000 * slowest.seconds(FLOOR_ROUNDS, 8 * 2 * row["n"] * row["d"])
            text = f"{slowest.name}: {row['op']}: ms waited with overlap, at most two rounds and 8 bytes a number of H"
            found.append({"text": f"{text} each way", "limit": limit, "measured": row["ms_median"]})
    return [{**claim, "met": claim["measured"] <= claim["limit"]} for claim in found]


def lines(found: dict[str, Any]) -> list[Sequence[str]]:
    """Cells of COLUMNS."""
    return [
        (
            row["link"],
            row["op"],
            "hides" if row["overlap"] else "",
            f"{row['ms_median']:.1f} ({row['ms_min']:.1f} to {row['ms_max']:.1f})",
            f"{row['model_ms']:.1f}",
            f"{row['floor_ms']:.1f}",
            f"{row['rounds']:g}",
            f"{row['bytes_sent'] + row['bytes_received']:,.0f}",
        )
        for row in found["rows"]
    ]
