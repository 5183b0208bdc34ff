"""The plaintext arm: one process that holds images and attributes, which is what secure runs are measured against."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from secure_fair.data.attributes import read_schema
from secure_fair.data.own import FILE, read_own
from secure_fair.errors import SettingsError
from secure_fair.fairness import methods
from secure_fair.fairness.terms import Context
from secure_fair.files import write_json
from secure_fair.training.loop import train
from secure_fair.training.processes import ALONE, Processes
from secure_fair.training.run_folder import check_run_folder, read_table
from secure_fair.training.setup import developer_side
from secure_fair.training.summary import write_summary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from secure_fair.settings import Settings


def run_plaintext(
    settings: Settings,
    method_name: str,
    attributes: Path | None,
    run: Path,
    progress: Callable[[int, int], None],
    *,
    resume: bool = False,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Train `method_name` in plaintext into the folder `run` and return its summary.

    `attributes` is the auditor's attributes.csv, with schema.json beside it; ERM does without, and then the summary has
    no group metrics. Raises RunError when `run` exists, or cannot be resumed; SettingsError; DataError.
    """
    began = time.perf_counter()
    check_run_folder(run, resume=resume)
    method = methods.get(method_name)
    method.require_settings(settings)
    processes.check(method)
    table = read_table(attributes, settings.attributes.columns) if attributes is not None else None
    if table is None and method.name != "erm":
        raise SettingsError(
            f"method `{method.name}` needs the attributes in the clear; name the auditor's attributes.csv"
        )
    model, data = developer_side(settings)
    tables = [torch.from_numpy(table.one_hot(column, data.train.ids)) for column in table.codes] if table else []
    weight = method.weight(settings)
    own = None
    if method.own_images and attributes is not None and (attributes.parent / FILE).exists():
        schema = read_schema(attributes.parent / "schema.json")
        transform = data.train.transform
        own = read_own(attributes.parent, settings.attributes.columns, schema.attributes, schema.person, transform)
    term = methods.factory(method.plain)(
        Context(settings, tables, model.width, model.classes, model, weight, data.train, own)
    )
    result = train(model, term, weight, data, settings, run / "developer", progress, resume=resume, processes=processes)
    cost = {
        "steps": result.steps,
        "train_seconds": result.train_seconds,
        "total_seconds": time.perf_counter() - began,
        **asdict(result.exchange),
    }
    write_json(run / "developer" / "cost.json", {"version": 1, **cost})
    return write_summary(
        run, method=method.name, release="none", arm="plaintext", settings=settings, table=table, cost=cost
    )
