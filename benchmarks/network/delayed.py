"""What `training.delayed` saves: steps of a real model over loopback and over a slow link, waited for or one step late.

python -m benchmarks.network.delayed --out delayed
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import environment, processes, secure_steps
from benchmarks.network.relay import Link, relayed
from benchmarks.network.study import LINKS
from benchmarks.secure_steps import StepShape
from parties.metering import Meter, MeteredTerm
from secure_fair.data.images import Batch
from secure_fair.fairness import methods
from secure_fair.fairness.background import Background
from secure_fair.fairness.terms import Context, FairnessTerm
from secure_fair.files import write_json
from secure_fair.model import backbone
from secure_fair.model.classifier import FairClassifier, build_classifier
from secure_fair.mpc.dealing.correlations import Role
from secure_fair.mpc.engine.party import Party
from secure_fair.settings import Settings
from secure_fair.training import device
from secure_fair.training.loop import Session

VERSION = 1
K = 2
WARM_UP = 2
TASKS = (("demo_vit", 48, 64, 8), ("vit_tiny_patch16_224", 224, 16, 4))  # backbone, image size, batch, repetitions
COLUMNS = (
    "model",
    "batch",
    "link",
    "method",
    "gradient",
    "ms a step (least to most)",
    "ms waited",
    "a backward pass, ms",
    "peak MB",
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """A method, whether attributes are secret-shared, and whether gradients are one step late."""

    method: str
    secure: bool
    delayed: bool

    @property
    def gradient(self) -> str:
        return "plaintext" if not self.secure else "one step later" if self.delayed else "waited for"


# Late ones last: the peak of memory counts from the process's start.
ARMS = (
    Arm("orth", secure=False, delayed=False),
    Arm("orth", secure=True, delayed=False),
    Arm("adv", secure=True, delayed=False),
    Arm("orth", secure=True, delayed=True),
    Arm("adv", secure=True, delayed=True),
)
STEPS = {"orth": "orth-odds", "adv": "adv"}  # their names in `secure_steps`


@dataclass(frozen=True)
class Task:
    """A backbone, pixels a side, images a step, and steps of each arm."""

    backbone: str
    image_size: int
    batch: int
    repetitions: int

    def settings(self, *, delayed: bool = False) -> Settings:
        table = {
            "data": {"image_size": self.image_size},
            "model": {"backbone": self.backbone, "weights": "random"},
            "training": {"device": "cpu", "delayed": delayed},
        }
        return Settings.model_validate(table)

    def shapes(self) -> list[StepShape]:
        """Of every protocol step, in order."""
        width = backbone.build(self.settings().model, self.image_size, 0).num_features
        each = WARM_UP + self.repetitions
        return [StepShape(STEPS[arm.method], self.batch, width, K) for arm in ARMS if arm.secure for _ in range(each)]


def rows(task: Task, link: Link) -> list[Row]:
    """A row for each arm."""
    shapes = task.shapes()
    jobs: dict[Role, processes.Job] = {
        "developer": functools.partial(_develop, task),
        "auditor": functools.partial(_audit, shapes),
    }
    with ExitStack() as stack:

        def route(address: str) -> str:
            return address if link.round_trip == 0 else stack.enter_context(relayed(link, address))

        measured: list[Row] = processes.run(secure_steps.plan(shapes), jobs, route)["developer"].result
    return [{**asdict(task), "link": link.name, **row} for row in measured]


def _audit(shapes: Sequence[StepShape], party: Party) -> None:
    secure_steps.follow(shapes, secure_steps.attributes(shapes[0].n, K), party)


def _develop(task: Task, party: Party) -> list[Row]:
    """Runs in the developer's process: each arm in turn, with a model of its own."""
    torch.set_num_threads(os.cpu_count() or 1)
    positions = torch.arange(task.batch)
    images = torch.randn(task.batch, 3, task.image_size, task.image_size)
    batch = Batch(images, positions % secure_steps.CLASSES, positions)
    return [_measure(task, arm, batch, party) for arm in ARMS]


def _measure(task: Task, arm: Arm, batch: Batch, party: Party) -> Row:
    settings = task.settings(delayed=arm.delayed)
    model = build_classifier(settings, secure_steps.CLASSES).train()
    meter = Meter(party.peer)
    term = _term(task, arm, settings, model.width, party, meter)
    ms, waited = [], []
    with tempfile.TemporaryDirectory() as folder:
        session = Session(model, term, 1.0, settings, Path(folder), device.resolve("cpu"))
        for _ in range(WARM_UP + task.repetitions):
            before = session.seconds, meter.exposed
            session.advance(batch, 0, io.StringIO())
            ms.append(1000 * (session.seconds - before[0]))
            waited.append(1000 * (meter.exposed - before[1]))
        session.drain(io.StringIO())
    term.close()
    return {
        **asdict(arm),
        "ms_median": statistics.median(ms[WARM_UP:]),
        "ms_min": min(ms[WARM_UP:]),
        "ms_max": max(ms[WARM_UP:]),
        "waited_ms": statistics.median(waited[WARM_UP:]),
        "memory_peak": processes.memory_peak(),
        "backward_ms": _backward_ms(model, batch, task.repetitions),
    }


def _term(task: Task, arm: Arm, settings: Settings, width: int, party: Party, meter: Meter) -> FairnessTerm:
    if not arm.secure:
        context = Context(settings, [secure_steps.attributes(task.batch, K)], width, secure_steps.CLASSES)
        plain: FairnessTerm = methods.factory(methods.get(arm.method).plain)(context)
        return plain
    shape = StepShape(STEPS[arm.method], task.batch, width, K)
    own = secure_steps.term(shape, party)
    term: FairnessTerm = Background(own) if arm.delayed else own
    return MeteredTerm(term, meter, lambda _: shape.floor_bytes(), lambda: None)


def _backward_ms(model: FairClassifier, batch: Batch, repetitions: int) -> float:
    """What a backward pass of the fairness term alone would cost."""
    ms = []
    adapter = list(model.lora_parameters().values())
    for _ in range(min(repetitions, 3)):
        h = model.represent(batch.images)
        began = time.perf_counter()
        torch.autograd.grad(h.square().sum(), adapter)
        ms.append(1000 * (time.perf_counter() - began))
    return statistics.median(ms)


def lines(found: dict[str, Any]) -> list[Sequence[str]]:
    """Cells of COLUMNS."""
    return [
        (
            row["backbone"],
            str(row["batch"]),
            row["link"],
            row["method"],
            Arm(row["method"], row["secure"], row["delayed"]).gradient,
            f"{row['ms_median']:.0f} ({row['ms_min']:.0f} to {row['ms_max']:.0f})",
            f"{row['waited_ms']:.1f}" if row["secure"] else "",
            f"{row['backward_ms']:.0f}",
            f"{row['memory_peak'] / 1e6:.0f}",
        )
        for row in found["rows"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for delayed.json")
    out: Path = parser.parse_args().out
    command = shlex.join(["python", "-m", "benchmarks.network.delayed", *sys.argv[1:]])
    found = [row for numbers in TASKS for link in (LINKS[0], LINKS[-1]) for row in rows(Task(*numbers), link)]
    out.mkdir(parents=True, exist_ok=True)
    described = environment.describe() | {"command": command}
    write_json(out / "delayed.json", {"version": VERSION, "rows": found, "environment": described})


if __name__ == "__main__":
    main()
