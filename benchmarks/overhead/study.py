"""Training steps of one model under every method and release, in turns: what else a machine does hits all alike.

The developer's process has the model and trains with the project's own loop; auditor and dealer are processes beside
it. Weights and images are random: a step takes as long whatever they hold. A private release (`moment`,
`randomized-response`) has been opened before training, so its steps are plaintext steps with soft attributes.
"""

from __future__ import annotations

import functools
import io
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import environment, processes, secure_steps
from benchmarks.processes import Job
from benchmarks.secure_steps import StepShape
from parties.metering import Meter, MeteredTerm
from secure_fair.data.images import Batch
from secure_fair.fairness import methods
from secure_fair.fairness.terms import Context, FairnessTerm
from secure_fair.files import write_json
from secure_fair.model import backbone
from secure_fair.model.classifier import build_classifier
from secure_fair.mpc.dealing.correlations import Role
from secure_fair.mpc.engine.party import Party
from secure_fair.settings import Settings
from secure_fair.training import device
from secure_fair.training.loop import Session

VERSION = 1
K = 2
WARM_UP = 1
EXPOSED_LIMIT_MS = 50.0
COLUMNS = (
    "model",
    "batch",
    "method",
    "release",
    "s a step (least to most)",
    "over plaintext",
    "exposed ms",
    "bytes a step",
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """A method under a release; secure: the name of its step in `secure_steps`."""

    method: str
    release: str
    secure: str | None = None


ARMS = (
    Arm("erm", "none"),
    Arm("orth", "none"),
    Arm("orth", "gradient", "orth-odds"),
    Arm("orth", "moment, randomized-response"),
    Arm("adv", "none"),
    Arm("adv", "gradient", "adv"),
    Arm("adv", "moment, randomized-response"),
)


@dataclass(frozen=True)
class Task:
    """A backbone, images a step, steps of each arm, and where to compute."""

    backbone: str
    batch: int
    repetitions: int
    device: str

    def settings(self) -> Settings:
        chosen = {"backbone": self.backbone, "weights": "random"}
        return Settings.model_validate({"model": chosen, "training": {"device": self.device}})


def make(tasks: Sequence[Task], out: Path, progress: Any) -> dict[str, Any]:
    """Measure, write OUT/overhead.json after each task and return what it holds."""
    rows: list[Row] = []
    found: dict[str, Any] = {}
    for task in tasks:
        progress(f"{task.backbone}, batch {task.batch}, {task.device}: running")
        rows += arms(task)
        found = {"version": VERSION, "rows": rows, "claims": claims(rows), "environment": environment.describe()}
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "overhead.json", found)
    return found


def arms(task: Task) -> Iterator[Row]:
    """A row for each arm."""
    settings = task.settings()
    width = backbone.build(settings.model, settings.data.image_size, 0).num_features
    shapes = [StepShape(arm.secure, task.batch, width, K) for arm in ARMS if arm.secure]
    sequence = shapes * (WARM_UP + task.repetitions)
    jobs: dict[Role, Job] = {
        "developer": functools.partial(_develop, task),
        "auditor": functools.partial(_audit, sequence),
    }
    measured = processes.run(secure_steps.plan(sequence), jobs, seconds=3600.0)
    steps: dict[Arm, list[Row]] = measured["developer"].result
    for arm, rows in steps.items():
        twin = steps[next(other for other in ARMS if (other.method, other.release) == (arm.method, "none"))]
        ratios = [own["seconds"] / plain["seconds"] for own, plain in zip(rows, twin, strict=True)]
        yield {
            **asdict(task),
            "method": arm.method,
            "release": arm.release,
            "arm": "secure" if arm.secure else "plaintext",
            **_spread("seconds", [row["seconds"] for row in rows]),
            **_spread("ratio", ratios),
            **_spread("exposed_ms", [row["exposed_ms"] for row in rows]),
            "bytes_sent": rows[-1]["bytes_sent"],
            "bytes_received": rows[-1]["bytes_received"],
        }


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{name}_median": statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}


def _develop(task: Task, party: Party) -> dict[Arm, list[Row]]:
    """Runs in the developer's process: a step of every arm, again and again."""
    torch.set_num_threads(os.cpu_count() or 1)
    settings = task.settings()
    chosen = device.resolve(task.device)
    model = build_classifier(settings, secure_steps.CLASSES).to(chosen).train()
    meter = Meter(party.peer)
    positions = torch.arange(task.batch)
    size = settings.data.image_size
    batch = Batch(torch.randn(task.batch, 3, size, size), positions % secure_steps.CLASSES, positions)
    steps: dict[Arm, list[Row]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        sessions = {
            arm: Session(
                model, _term(arm, task, model.width, settings, party, meter), 1.0, settings, Path(folder), chosen
            )
            for arm in ARMS
        }
        for _ in range(WARM_UP + task.repetitions):
            for arm, session in sessions.items():
                before = (session.seconds, meter.exposed, party.peer.bytes_sent, party.peer.bytes_received)
                session.advance(batch, 0, io.StringIO())
                after = (session.seconds, meter.exposed, party.peer.bytes_sent, party.peer.bytes_received)
                seconds, exposed, sent, received = (now - then for now, then in zip(after, before, strict=True))
                counted = {"bytes_sent": sent, "bytes_received": received}
                steps[arm].append({"seconds": seconds, "exposed_ms": 1000 * exposed, **counted})
    return {arm: rows[WARM_UP:] for arm, rows in steps.items()}


def _term(arm: Arm, task: Task, width: int, settings: Settings, party: Party, meter: Meter) -> FairnessTerm:
    if arm.secure:
        shape = StepShape(arm.secure, task.batch, width, K)
        return MeteredTerm(secure_steps.term(shape, party), meter, lambda _: shape.floor_bytes(), lambda: None)
    table = secure_steps.attributes(task.batch, K)
    if arm.release != "none":
        table = 0.8 * table + 0.1  # soft attributes
    context = Context(settings, [table], width, secure_steps.CLASSES)
    plain: FairnessTerm = methods.factory(methods.get(arm.method).plain)(context)
    return plain


def _audit(sequence: Sequence[StepShape], party: Party) -> None:
    secure_steps.follow(sequence, secure_steps.attributes(sequence[0].n, K), party)


def claims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """On a CPU: what training waits for the auditor in a step."""
    return [
        {
            "text": f"{row['backbone']}, batch {row['batch']}, {row['device']}, {row['method']}: exposed ms, at most",
            "limit": EXPOSED_LIMIT_MS,
            "measured": row["exposed_ms_median"],
            "met": row["exposed_ms_median"] <= EXPOSED_LIMIT_MS,
        }
        for row in rows
        if row["arm"] == "secure" and row["device"] == "cpu"
    ]


def lines(found: dict[str, Any]) -> list[Sequence[str]]:
    """Cells of COLUMNS."""
    return [
        (
            row["backbone"],
            str(row["batch"]),
            row["method"],
            row["release"],
            f"{row['seconds_median']:.3g} ({row['seconds_min']:.3g} to {row['seconds_max']:.3g})",
            f"{row['ratio_median']:.3f} ({row['ratio_min']:.3f} to {row['ratio_max']:.3f})",
            f"{row['exposed_ms_median']:.1f}" if row["arm"] == "secure" else "",
            f"{row['bytes_sent'] + row['bytes_received']:,}" if row["arm"] == "secure" else "",
        )
        for row in found["rows"]
    ]
