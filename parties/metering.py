"""What the secure part of a run costs: rounds, bytes and seconds, counted where they arise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from secure_fair.fairness.terms import FairnessTerm
from secure_fair.files import write_json
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.training.loop import TrainingResult
from secure_fair.transport.frames import Connection

COST_FILE = "cost.json"  # in the developer's folder; written last


@dataclass(frozen=True)
class Cost:
    """The fields of cost.json. Bytes are those of frames on the wire, without TLS's own and heartbeats.

    mpc_seconds: from the representation's leaving until its gradient is there (with `training.delayed`: is asked for),
    and before it what prepares a step.
    exposed_seconds: those of them in which training waited; the others the network had while the task loss was
    computed. rounds_per_step: for `gradient` per training step, for a private release per release.
    floor_bytes: the least that both directions together could take (docs/protocols.md, section 4). The last three: the
    developer's own processes, see `training.processes.Exchange`.
    """

    steps: int
    rounds_per_step: float
    bytes_sent: int
    bytes_received: int
    floor_bytes: int
    offline_bytes: int
    mpc_seconds: float
    exposed_seconds: float
    train_seconds: float
    total_seconds: float
    processes: int = 1
    gather_seconds: float = 0.0
    reduce_seconds: float = 0.0

    def write(self, folder: Path) -> None:
        write_json(folder / COST_FILE, {"version": 1, **asdict(self)})


class Meter:
    """Adds up what protocol runs cost on one channel; `exposed`: seconds of them in which training waited."""

    def __init__(self, auditor: Connection) -> None:
        self._auditor = auditor
        self._rounds_before = auditor.rounds
        self._seconds = self.exposed = 0.0
        self._floor_bytes = 0
        self._runs = 0

    def add(self, seconds: float, floor_bytes: int, *, exposed: float | None = None, runs: int = 1) -> None:
        """Protocol runs that took so long (all of it was waited for, or `exposed`), and the least bytes they need."""
        self._seconds += seconds
        self.exposed += seconds if exposed is None else exposed
        self._floor_bytes += floor_bytes
        self._runs += runs

    def cost(self, result: TrainingResult, source: CorrelationSource | None, total_seconds: float) -> Cost:
        rounds = self._auditor.rounds - self._rounds_before
        return Cost(
            steps=result.steps,
            rounds_per_step=round(rounds / max(self._runs, 1), 3),
            bytes_sent=self._auditor.bytes_sent,
            bytes_received=self._auditor.bytes_received,
            floor_bytes=self._floor_bytes,
            offline_bytes=0 if source is None else source.offline_bytes,
            mpc_seconds=self._seconds,
            exposed_seconds=self.exposed,
            train_seconds=result.train_seconds,
            total_seconds=total_seconds,
            **asdict(result.exchange),
        )


class MeteredTerm:
    """A secure term whose time is added to a meter's; `restored` is called after it took back a checkpoint's state."""

    def __init__(
        self, term: FairnessTerm, meter: Meter, floor_bytes: Callable[[int], int], restored: Callable[[], None]
    ) -> None:
        self.name, self._term, self._meter, self._floor = term.name, term, meter, floor_bytes
        self._restored = restored

    def prepare(self, labels: torch.Tensor, positions: torch.Tensor, /) -> None:
        began = time.perf_counter()
        self._term.prepare(labels, positions)
        self._meter.add(time.perf_counter() - began, 0, runs=0)

    def begin(self, h: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor, /) -> None:
        self._began = time.perf_counter()
        self._least = self._floor(len(h))
        self._term.begin(h, labels, positions)
        self._sent = time.perf_counter()

    def finish(self) -> torch.Tensor:
        called = time.perf_counter()
        value = self._term.finish()
        now = time.perf_counter()
        exposed = now - called + self._sent - self._began
        self._meter.add(now - self._began, self._least, exposed=exposed)
        return value

    def state(self) -> dict[str, torch.Tensor]:
        return self._term.state()

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self._term.restore(state)
        self._restored()

    def close(self) -> None:
        self._term.close()
