"""The developer's process: trains its model, asking the auditor for what the fairness term needs."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from parties.adapters import adapter_term, overlap_term, predictor_term
from parties.continuation import common_ids, keep_common
from parties.exposure import warning
from parties.links import opened
from parties.messages import COUNT_BYTES, decode_count, encode_step
from parties.metering import COST_FILE, Cost, MeteredTerm
from parties.moments import can_reuse, forget, soft_arrays
from parties.private_terms import MomentTerm, response_term
from parties.run import Progress, Run
from parties.schedule import training_plan
from parties.soft_attributes import SoftTable, reused_term
from secure_fair import checkpoint
from secure_fair.errors import ProtocolError, RunError
from secure_fair.fairness import methods
from secure_fair.fairness.background import Background
from secure_fair.fairness.terms import Context, FairnessTerm
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import SEED_BYTES, RingGenerator
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.terms import PublicShape, SecureMethod
from secure_fair.privacy.disclosures import DisclosureLog
from secure_fair.settings import Settings
from secure_fair.training import device
from secure_fair.training.loop import CHECKPOINTS, Splits, TrainingResult, train
from secure_fair.training.processes import ALONE, Processes
from secure_fair.training.setup import developer_side

_log = logging.getLogger(__name__)


def run_developer(
    settings: Settings,
    method_name: str,
    release: str,
    out: Path,
    progress: Progress,
    *,
    resume: bool = False,
    reuse: Path | None = None,
    processes: Processes = ALONE,
) -> TrainingResult:
    """Train with a method under a release and write RUN/developer. Raises what ended the run; the peers are told.

    reuse: the developer's folder of an earlier run whose private release serves this one too, at no further cost; a
    resumed run reuses its own.
    """
    began = time.perf_counter()
    method = methods.get(method_name)
    method.require_release(release)
    method.require_settings(settings)
    device.resolve(settings.training.device)  # or it would be known after the debit
    processes.check(method)
    if resume and (out / COST_FILE).exists():
        raise RunError(f"{out}: this run is complete; name another folder")
    columns = settings.attributes.columns
    reuse = _reusable(settings, release, out, reuse, resume=resume)
    if settings.training.threads:
        torch.set_num_threads(settings.training.threads)
    model, splits = developer_side(settings)
    out.mkdir(parents=True, exist_ok=True)
    weight = method.weight(settings, release)

    def fit(term: FairnessTerm, data: Splits) -> TrainingResult:
        steps = functools.partial(progress, "training")
        return train(model, term, weight, data, settings, out, steps, resume=resume, processes=processes)

    if not resume:
        _begin_anew(out, kept=reuse == out)
    splits = _as_before(splits, reuse or out, out, processes)

    if release == "none" or reuse is not None:
        if reuse is None:
            term: FairnessTerm = methods.factory(method.plain)(Context(settings, (), model.width, model.classes))
        else:
            table = SoftTable.load(reuse, splits, release, columns)
            if reuse != out:
                table.save(out, release, columns)
            _warn(release, settings)
            term = reused_term(settings, method, weight, table, model, splits.train)
        result = fit(term, splits)
        total = time.perf_counter() - began
        seconds = result.train_seconds
        Cost(result.steps, 0.0, 0, 0, 0, 0, 0.0, 0.0, seconds, total, **asdict(result.exchange)).write(out)
        return result
    with opened(settings.network) as links, DisclosureLog(out, release, store=settings.privacy.store_values) as log:
        run = Run(settings, method, release, weight, out, links, log, model, splits, progress, resume, processes)
        _warn(release, settings)  # now: the auditor has accepted, and nothing was opened
        result = fit(TERMS[release](run), run.splits)
        run.end()
    run.meter.cost(result, run.dealt, time.perf_counter() - began).write(out)
    return result


def _reusable(settings: Settings, release: str, out: Path, reuse: Path | None, *, resume: bool) -> Path | None:
    """The folder whose private release serves this run too; None: the auditor is asked. Raises RunError.

    Known before a model is loaded, and before anything of an earlier run in `out` is dropped.
    """
    if resume and reuse is None and can_reuse(settings, release, out):
        reuse = out
    if reuse is not None:
        soft_arrays(reuse, release, settings.attributes.columns)
    return reuse


def _warn(release: str, settings: Settings) -> None:
    if (text := warning(release, settings)) is not None:
        _log.warning("warning: %s", text)


def _begin_anew(out: Path, *, kept: bool) -> None:
    """Drop what an earlier run has left, its release unless that is `kept`: this one must not be resumed with it.

    Now, since features and release come before the loop, and may take long.
    """
    (out / COST_FILE).unlink(missing_ok=True)
    checkpoint.discard_after(out / CHECKPOINTS, -1)
    if not kept:
        forget(out)


def _as_before(splits: Splits, earlier: Path, out: Path, processes: Processes) -> Splits:
    """The splits without the training records that the auditor of the run in `earlier` did not have, if one did so."""
    common = common_ids(earlier)
    if common is None:
        return splits
    processes.narrow()
    keep_common(out, common)
    return replace(splits, train=splits.train.only(common))


def _gradient_term(run: Run) -> FairnessTerm:
    """A secure term that asks the auditor in every step."""
    secure: SecureMethod = methods.factory(run.method.secure["gradient"])()
    public = PublicShape(run.model.width, run.hello.classes, run.answer.groups)
    start, seed = _start(run)
    source = run.source(training_plan(secure, run.settings, public, run.hello, start))
    step, records = start - 1, np.empty(0, dtype=np.int64)

    def record(name: str, value: torch.Tensor, unit: float) -> None:
        run.log.add(step, name, value.numpy(), records, unit=unit)

    def announce(positions: torch.Tensor) -> None:
        nonlocal step, records
        step, records = step + 1, run.train[positions.numpy()]
        run.links.where = f"step {step + 1} of {run.hello.epochs * run.steps_per_epoch}"
        run.auditor.send(Kind.STEP, *encode_step(step, records))

    party = Party("developer", run.auditor, source, record)
    term = secure.developer(run.settings, public, party, announce)
    return MeteredTerm(
        Background(term) if run.settings.training.delayed else term,
        run.meter,
        lambda n: secure.floor_bytes(public, n),
        lambda: term.rerandomise(RingGenerator(seed)),
    )


def _start(run: Run) -> tuple[int, bytes]:
    """The step that the auditor shares with us, and the seed that re-randomises shares kept since then.

    Our later checkpoints are dropped: the loop goes on from the newest that is left.
    """
    answer = run.auditor.receive(Kind.HELLO, size=COUNT_BYTES + SEED_BYTES)
    start = decode_count(answer[:COUNT_BYTES])
    if start not in (0, *run.hello.steps):
        raise ProtocolError(f"auditor wants to go on after step {start}, of which we have no checkpoint")
    checkpoint.discard_after(run.out / CHECKPOINTS, start)
    if run.hello.steps:
        _log.warning("resuming after step %d", start)
    return start, bytes(answer[COUNT_BYTES:])


TERMS: dict[str, Callable[[Run], FairnessTerm]] = {
    "gradient": _gradient_term,
    "moment": MomentTerm,
    "randomized-response": response_term,
    "adapter": adapter_term,
    "adapter-gradient": overlap_term,
    "predictor": predictor_term,
}
