"""A request and its reply over our frames in TLS, and over CrypTen's transport (gloo, no encryption), in turns.

python -m benchmarks.network.tls --out tls
"""

from __future__ import annotations

import argparse
import functools
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from benchmarks import environment, processes
from benchmarks.processes import Job
from secure_fair.files import write_json
from secure_fair.mpc.dealing.correlations import Role
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind

VERSION = 1
WARM_UP, REPETITIONS = 5, 200
SIZES = (64, 1024, 25_000, 100_000, 1_000_000)  # int64 numbers each way; a step of ORTH has about 25,000
COLUMNS = (
    "numbers each way",
    "TLS, ms (10th to 90th percentile)",
    "gloo, ms (10th to 90th percentile)",
    "TLS over gloo",
)
Row = dict[str, Any]


def rows(sizes: Sequence[int], repetitions: int) -> list[Row]:
    """A row for each number of int64 each way."""
    with tempfile.TemporaryDirectory() as folder:  # where gloo's two ends meet: a port might be taken meanwhile
        job = functools.partial(_in_turns, f"file://{folder}/meeting", sizes, repetitions)
        jobs: dict[Role, Job] = {"developer": job, "auditor": job}
        measured: dict[int, dict[str, list[float]]] = processes.run(Plan(()), jobs)["developer"].result
    return [_row(size, **seconds) for size, seconds in measured.items()]


def _row(size: int, tls: list[float], gloo: list[float]) -> Row:
    ratio = statistics.median(tls) / statistics.median(gloo)
    return {"numbers": size, **_spread("tls", tls), **_spread("gloo", gloo), "ratio": ratio}


def _spread(name: str, seconds: list[float]) -> dict[str, float]:
    tenths = statistics.quantiles([1000 * value for value in seconds], n=10)
    return {f"{name}_ms_median": tenths[4], f"{name}_ms_low": tenths[0], f"{name}_ms_high": tenths[8]}


def _in_turns(address: str, sizes: Sequence[int], repetitions: int, party: Party) -> dict[int, dict[str, list[float]]]:
    """Runs in both processes; seconds of each exchange, by size and transport."""
    distributed.init_process_group("gloo", init_method=address, rank=party.rank, world_size=2)
    found: dict[int, dict[str, list[float]]] = {}
    for size in sizes:
        numbers = torch.arange(size)
        ways: dict[str, Callable[[], torch.Tensor]] = {
            "tls": functools.partial(_over_tls, party, numbers),
            "gloo": functools.partial(_over_gloo, party, numbers),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(WARM_UP + repetitions):
            for name, way in ways.items():
                began = time.perf_counter()
                received = way()
                seconds[name].append(time.perf_counter() - began)
                if not torch.equal(received, numbers):
                    raise RuntimeError(f"{name}: what came back is not what was sent")
        found[size] = {name: values[WARM_UP:] for name, values in seconds.items()}
    distributed.destroy_process_group()
    return found


def _over_tls(party: Party, numbers: torch.Tensor) -> torch.Tensor:
    if party.is_developer:
        party.send(Kind.MASKED, numbers)
        (received,) = party.receive(Kind.MASKED, numbers.shape)
    else:
        (received,) = party.receive(Kind.MASKED, numbers.shape)
        party.send(Kind.MASKED, received)
    return received


def _over_gloo(party: Party, numbers: torch.Tensor) -> torch.Tensor:
    received = torch.empty_like(numbers)
    if party.is_developer:
        distributed.send(numbers, 1 - party.rank)
        distributed.recv(received, 1 - party.rank)
    else:
        distributed.recv(received, 1 - party.rank)
        distributed.send(received, 1 - party.rank)
    return received


def lines(found: dict[str, Any]) -> list[Sequence[str]]:
    """Cells of COLUMNS."""
    return [
        (f"{row['numbers']:,}", *(_cell(row, name) for name in ("tls", "gloo")), f"{row['ratio']:.2f}")
        for row in found["rows"]
    ]


def _cell(row: Row, name: str) -> str:
    return f"{row[f'{name}_ms_median']:.2f} ({row[f'{name}_ms_low']:.2f} to {row[f'{name}_ms_high']:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for tls.json")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    described = environment.describe() | {
        "command": shlex.join(["python", "-m", "benchmarks.network.tls", *sys.argv[1:]])
    }
    write_json(out / "tls.json", {"version": VERSION, "rows": rows(SIZES, REPETITIONS), "environment": described})


if __name__ == "__main__":
    main()
