"""Loops of a user's own, run in processes that start fast (tests/parties/world.py); each prints one JSON object."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from parties import launch, own_loop
from parties.simulation import own_policy
from secure_fair import settings
from secure_fair.api import FairnessTerm, TrainingPlan, write_attributes
from secure_fair.errors import RunError
from secure_fair.fairness.terms import PlainOrth
from secure_fair.privacy.ledger import Ledger
from tests.parties.commands import PATIENCE, Forked, server

RECORDS, WIDTH, BATCH, EPOCHS = 50, 6, 16, 2
GROUPS = ("a", "b", "c")


def setting(folder: Path) -> tuple[Path, TrainingPlan, torch.Tensor, torch.Tensor]:
    """A settings file, a plan, one-hot attributes [N, 3] and representations [N, d]."""
    rng = np.random.default_rng(5)
    codes = rng.integers(3, size=RECORDS)
    ids = [f"x{number}" for number in rng.permutation(RECORDS)]
    other = ["y0", "a1"]
    values = [*(GROUPS[code] for code in codes), "a", "b"]
    table = write_attributes(folder / "auditor", [*ids, *other], {"group": values}, {"group": GROUPS})
    file = folder / "settings.toml"
    file.write_text(f'[attributes]\nfile = "{table}"\ncolumns = ["group"]\n')
    h = torch.tensor(rng.normal(size=(RECORDS, WIDTH)), dtype=torch.float32)
    labels = torch.tensor(rng.integers(2, size=RECORDS))
    features = rng.normal(size=(RECORDS, 4))
    plan = TrainingPlan(ids, labels, 2, WIDTH, BATCH, EPOCHS, features=features, other_ids=other)
    return file, plan, torch.eye(3)[torch.tensor(codes)], h


def batches(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [part for _ in range(EPOCHS) for part in torch.randperm(RECORDS, generator=generator).split(BATCH)]


def equal(folder: Path) -> dict[str, Any]:
    """The secure term beside the plaintext one: largest error of values and of gradients."""
    file, plan, onehot, h0 = setting(folder)
    plain = PlainOrth(onehot, "odds")
    values: list[float] = []
    gradients: list[float] = []
    with FairnessTerm.simulate(
        file, plan, method="orth", release="gradient", out=folder / "run", overrides={"fairness.weight": 3.0}
    ) as term:
        for index in batches():
            found, expected = (h0[index].requires_grad_() for _ in range(2))
            labels = plan.labels[index]
            if len(values) > 6:  # later steps as a loop does that has heard of it
                term.prepare(labels, index)
            loss = term(found, labels, index)
            plain.begin(expected, labels, index)
            truth = plain.finish()
            (mine,) = torch.autograd.grad(loss, found)
            (theirs,) = torch.autograd.grad(truth, expected)
            values.append(abs(float(loss) - 3 * float(truth)))
            gradients.append(float((mine - 3 * theirs).abs().max()))
            assert term.value is not None
            values.append(abs(term.value - float(truth)))
    return {"value": max(values), "gradient": max(gradients), "steps": len(gradients)}


def private(folder: Path, release: str) -> dict[str, Any]:
    """A private release: finite losses, and what it left."""
    file, plan, _, h = setting(folder)
    with FairnessTerm.simulate(file, plan, method="orth", release=release, out=folder / "run") as term:
        losses = [float(term(h[index], plan.labels[index], index)) for index in batches()]
    return {"finite": bool(np.isfinite(losses).all()), "some": max(losses) > 0}


def again(folder: Path) -> dict[str, Any]:
    """Two runs, one after the other, in the same folder of the developer's; auditor and dealer are new each time."""
    file, plan, _, h = setting(folder)
    effective = settings.load(file)
    schema = folder / "auditor" / "schema.json"
    kinds = []
    for number in range(2):
        run = folder / f"run{number}"
        run.mkdir()
        policy = run / "policy.toml"
        policy.write_text(own_policy(effective, "moment", schema))
        with launch.peers(launch.Launch(run, file, (), policy, "orth", "moment")) as (network, wait):
            own = settings.load(file, tuple(network))
            with own_loop.connected(own, "orth", "moment", plan, folder / "developer") as loop:
                index = batches()[0]
                loop.term.begin(h[index], plan.labels[index], index)
                loop.term.finish()
            wait()
        with Ledger(run / "auditor" / "ledger.sqlite", None) as ledger:
            kinds += [release.kind for release in ledger.releases()]
    return {"releases": kinds}


def early(folder: Path) -> dict[str, Any]:
    """Stops after two steps of eight."""
    file, plan, _, h = setting(folder)
    with FairnessTerm.simulate(file, plan, method="orth", release="gradient", out=folder / "run") as term:
        for index in batches()[:2]:
            term(h[index], plan.labels[index], index)
    return {}


def wrong(folder: Path) -> dict[str, Any]:
    """A batch that was not planned, then more steps than planned."""
    file, plan, _, h = setting(folder)
    told = []
    with FairnessTerm.simulate(file, plan, method="orth", release="gradient", out=folder / "run") as term:
        index = torch.arange(BATCH - 1)
        try:
            term(h[index], plan.labels[index], index)
        except RunError as error:
            told.append(str(error))
        for index in batches():
            term(h[index], plan.labels[index], index)
        try:
            term(h[index], plan.labels[index], index)
        except RunError as error:
            told.append(str(error))
    return {"told": told}


def broken(folder: Path) -> dict[str, Any]:
    """The user's own error comes out as it is."""
    file, plan, _, _ = setting(folder)
    try:
        with FairnessTerm.simulate(file, plan, method="orth", release="gradient", out=folder / "run"):
            raise KeyError("mine")
    except KeyError as error:
        return {"error": repr(error), "cause": repr(error.__cause__)}


def run(name: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run one of these in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    process = server().Process(target=_run, args=(name, folder, arguments))
    process.start()
    process.join(PATIENCE)
    text = (folder / "log").read_text()
    assert process.exitcode == 0, text
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


def _run(name: str, folder: Path, arguments: tuple[str, ...]) -> None:
    own = {"Popen": Forked, "DEVNULL": subprocess.DEVNULL, "TimeoutExpired": subprocess.TimeoutExpired}
    launch.subprocess = SimpleNamespace(**own)  # type: ignore[assignment, attr-defined]
    descriptor = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        result = globals()[name](folder, *arguments)
    except BaseException:  # noqa: BLE001 a process's last door
        traceback.print_exc()
        sys.exit(1)
    os.write(1, (json.dumps(result) + "\n").encode())
