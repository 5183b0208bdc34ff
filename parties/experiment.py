"""`secure-fair experiment`: a grid of tasks, attributes, methods, releases and seeds, run by several workers.

OUT/data/PAIR/, OUT/runs/PAIR/ARM-wWEIGHT-seedS/, OUT/choices.json, OUT/results.json. What is complete is not run again.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parties.comparison import environment
from parties.experiment_data import Steps, prepare_pair, prepared, require_same, settings_file
from parties.experiment_file import Experiment
from parties.workers import Say, Workers
from secure_fair.errors import RunError
from secure_fair.fairness import methods, verdict
from secure_fair.files import write_json, write_text
from secure_fair.report.experiment import lines

VERSION = 1


@dataclass(frozen=True)
class Job:
    """One training; release None: plaintext."""

    pair: str
    method: str
    release: str | None
    weight: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.release or 'plaintext'}-w{self.weight:g}-seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.pair} {self.name}"


def run_experiment(
    experiment: Experiment, out: Path, say: Say, steps: Steps, *, workers: int = 1, devices: Sequence[str] = ()
) -> dict[str, Any]:
    """Prepare the data, choose weights on the validation split, run the grid; returns and writes OUT/results.json.

    Each worker has one of `devices`, in turn. RunError, before anything is written, when OUT was made from another
    description of data or settings. Raises what a run raises; what was finished stays.
    """
    require_same(experiment, out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "rule.txt", experiment.rule + "\n")
    for pair in experiment.pairs:
        prepare_pair(experiment, pair, out, steps)
    with Workers(functools.partial(_run, out), workers, devices, say) as pool:
        pool.run(_open(out, _candidates(experiment)))
        choices = _choose(experiment, out)
        write_json(out / "choices.json", {"rule": experiment.rule, "weights": choices})
        jobs = list(_grid(experiment, choices))
        pool.run(_open(out, jobs))
    return _collect(experiment, out, choices, jobs, say)


def table_of_complete(experiment: Experiment, out: Path, say: Say) -> dict[str, Any]:
    """OUT/results.json of the complete runs, running nothing. Raises RunError before the weights are chosen."""
    try:
        choices = json.loads((out / "choices.json").read_text())["weights"]
    except OSError:
        raise RunError(f"{out}: the weights have not been chosen yet; let the experiment run on") from None
    jobs = list(_grid(experiment, choices))
    complete = [job for job in jobs if (_folder(out, job) / "summary.json").exists()]
    say(f"{len(complete)} of {len(jobs)} runs are complete")
    return _collect(experiment, out, choices, complete, say)


def _collect(
    experiment: Experiment, out: Path, choices: dict[str, dict[str, float]], jobs: Sequence[Job], say: Say
) -> dict[str, Any]:
    """Write results.json, and warn of runs that went wrong."""
    rows = [
        {"pair": job.pair, "weight": job.weight, **json.loads((_folder(out, job) / "summary.json").read_text())}
        for job in jobs
    ]
    for text in dict.fromkeys(
        f"{row['pair']}: {text}" for row in rows for text in verdict.few_records(verdict.cells(row))
    ):
        say(f"warning: {text}")
    unaware = {(row["pair"], row["seed"]): row["metrics"] for row in rows if row["method"] == "erm"}
    for job, row in zip(jobs, rows, strict=True):
        for text in verdict.of_summary(row, unaware.get((row["pair"], row["seed"]))):
            say(f"warning: {job}: {text}")
    pairs = {pair.name: {"task": pair.task, "attribute": pair.attribute} for pair in experiment.pairs}
    result = {
        "version": VERSION,
        "rule": experiment.rule,
        "pairs": pairs,
        "choices": choices,
        "rows": rows,
        "lines": [asdict(line) for line in lines({"rows": rows})],
        "environment": environment(),  # of this table; each row says its own commit and versions
    }
    write_json(out / "results.json", result)
    return result


def _candidates(experiment: Experiment) -> Iterator[Job]:
    """What the rule looks at: the first seed, in plaintext."""
    seed = experiment.settings.training.seed
    for pair in experiment.pairs:
        yield Job(pair.name, "erm", None, 0.0, seed)
        for method, weights in experiment.weights.items():
            yield from (Job(pair.name, method, None, weight, seed) for weight in weights)


def _choose(experiment: Experiment, out: Path) -> dict[str, dict[str, float]]:
    """pair -> method -> weight, by `Experiment.rule`; reads validation rows only."""
    from secure_fair.training.run_folder import read_table
    from secure_fair.training.summary import group_metrics

    found: dict[str, list[tuple[Job, dict[str, Any]]]] = {}
    for job in _candidates(experiment):
        pair = next(pair for pair in experiment.pairs if pair.name == job.pair)
        table = read_table(prepared(out, job.pair) / "auditor" / "attributes.csv", (pair.attribute,))
        file = _folder(out, job) / "developer" / "predictions.csv"
        found.setdefault(job.pair, []).append((job, group_metrics(file, table, pair.attribute, "val")))
    choices: dict[str, dict[str, float]] = {}
    for name, scored in found.items():
        floor = scored[0][1]["balanced_accuracy"] - experiment.max_loss
        for method in experiment.weights:
            own = [(job.weight, score) for job, score in scored if job.method == method]
            kept = [pair for pair in own if pair[1]["balanced_accuracy"] >= floor]
            best = (
                min(kept, key=lambda pair: pair[1]["equalized_odds_difference"])
                if kept
                else max(own, key=lambda pair: pair[1]["balanced_accuracy"])
            )
            choices.setdefault(name, {})[method] = best[0]
    return choices


def _grid(experiment: Experiment, choices: dict[str, dict[str, float]]) -> Iterator[Job]:
    """A whole seed after the other, so that an interrupted grid has all arms of the first ones."""
    first = experiment.settings.training.seed
    for seed in range(first, first + experiment.seeds):
        for pair in experiment.pairs:
            for name, release in experiment.parsed():
                method = methods.get(name)
                twin = release in (None, method.releases[0])
                chosen = choices.get(pair.name, {}).get(name) if twin else None
                weight = method.weight(experiment.settings, release) if chosen is None else chosen
                yield Job(pair.name, name, release, weight, seed)


def _open(out: Path, jobs: Iterable[Job]) -> list[Job]:
    """What is not complete, each once."""
    return [job for job in dict.fromkeys(jobs) if not (_folder(out, job) / "summary.json").exists()]


def _run(out: Path, job: Job, device: str | None) -> float:
    """In a worker: one training, seconds."""
    import time

    from parties.simulation import Simulation, simulate
    from secure_fair import settings
    from secure_fair.training.baseline import run_plaintext

    began = time.monotonic()
    folder = _folder(out, job)
    if folder.exists():
        shutil.rmtree(folder)  # what an interrupted run left
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = settings_file(out, job.pair)
    overrides = [f"training.seed={job.seed}", f"fairness.weight={job.weight}"]
    if device is not None:
        overrides.append(f"training.device={device}")
    effective = settings.load(config, tuple(overrides))
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if job.release is None:
        run_plaintext(effective, job.method, effective.attributes.file, partial, lambda _done, _total: None)
    else:
        simulation = Simulation(effective, config, tuple(overrides), job.method, job.release, partial)
        log = folder.with_name(f"{folder.name}.log")
        try:
            with _told_to(log):  # the developer's progress and errors: several workers share one terminal
                simulate(simulation)
        except RunError as error:
            raise RunError(f"{error} (in {log})") from None
    shutil.rmtree(partial / "developer" / "checkpoint", ignore_errors=True)
    partial.rename(folder)
    return time.monotonic() - began


@contextmanager
def _told_to(file: Path) -> Iterator[None]:
    """What this process and its children write to standard error goes to a file, until the block ends."""
    before = os.dup(2)
    told = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.dup2(told, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(told)
        os.close(before)


def _folder(out: Path, job: Job) -> Path:
    return out / "runs" / job.pair / job.name
