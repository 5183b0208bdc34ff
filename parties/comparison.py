"""Plaintext against secure, side by side: the same training loop, seeds and machine, one arm after another."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parties.earlier import read_complete
from parties.leftovers import removed_if_refused
from parties.simulation import Simulation, simulate
from secure_fair.errors import RunError, SettingsError
from secure_fair.fairness import methods, verdict
from secure_fair.files import write_json
from secure_fair.report import arms as by_arm
from secure_fair.report import curves
from secure_fair.settings import Settings
from secure_fair.training.baseline import run_plaintext
from secure_fair.training.summary import commit, versions

VERSION = 1
PRIVATE = ("moment", "randomized-response")  # releases that a later run may start from
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    """One training: release None is the plaintext baseline, which is ERM's only arm."""

    method: str
    release: str | None
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.release or 'plaintext'}-seed{self.seed}"


def arms(method_names: Sequence[str], releases: Sequence[str], seeds: int, first_seed: int) -> list[Arm]:
    """ERM first, since leakage is measured against it; a release that a method does not know is left out.

    Raises SettingsError for a name that is no method, and for one that no method knows as a release.
    """
    known = set(methods.RELEASES) - {"none"}
    for name, given, names in (("methods", method_names, methods.METHODS), ("releases", releases, known)):
        if unknown := [one for one in given if one not in names]:
            raise SettingsError(f"{name}: {', '.join(unknown)} is unknown; choose from {', '.join(sorted(names))}")
    return list(_arms(method_names, releases, seeds, first_seed))


def _arms(method_names: Sequence[str], releases: Sequence[str], seeds: int, first_seed: int) -> Iterator[Arm]:
    for seed in range(first_seed, first_seed + seeds):
        for name in sorted(method_names, key=lambda name: name != "erm"):
            yield Arm(name, None, seed)
            known = methods.get(name).releases if name != "erm" else ()
            yield from (Arm(name, release, seed) for release in releases if release in known)


def compare(
    settings: Settings,
    config: Path,
    overrides: tuple[str, ...],
    chosen: Sequence[Arm],
    out: Path,
    say: Progress,
    steps: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Run every arm into OUT/runs; write OUT/compare.csv and OUT/compare.json, which is returned.

    With several seeds a private release is made for the first and reused by the others: features of the frozen
    backbone do not depend on the seed, and every row says the epsilon of the release that it uses. A run that is
    complete is not run again; RunError, before anything is run, when one was made with other settings. Raises what an
    arm raises; what was finished stays.
    """
    folders = {arm: out / "runs" / arm.name for arm in chosen}
    complete = {
        arm: read_complete(run, _seeded(settings, arm.seed))
        for arm, run in folders.items()
        if (run / "summary.json").exists()
    }
    rows: list[dict[str, Any]] = []
    released: dict[str, Path] = {}
    erm: dict[int, Path] = {}
    unaware: dict[int, dict[str, Any]] = {}
    with removed_if_refused(out):
        for number, arm in enumerate(chosen, start=1):
            run = folders[arm]
            say(f"arm {number} of {len(chosen)}: {arm.name}")
            own = (*overrides, f"training.seed={arm.seed}")
            seeded = _seeded(settings, arm.seed)
            if arm not in complete and run.exists():
                shutil.rmtree(run)  # what an interrupted arm left; the arm starts anew, and its ledger with it
            if arm in complete:
                row = complete[arm]
            elif arm.release is None:
                row = run_plaintext(
                    seeded, arm.method, settings.attributes.file, run, functools.partial(steps, arm.name)
                )
            else:
                reuse = released.get(arm.release) if settings.model.weights != "random" else None
                row = simulate(
                    Simulation(
                        seeded, config, own, arm.method, arm.release, run, reuse=reuse, reference=erm.get(arm.seed)
                    )
                )
            if arm.release in PRIVATE and settings.privacy.refresh == "once":
                released.setdefault(arm.release, run)
            if arm.method == "erm":
                erm[arm.seed] = run
                unaware[arm.seed] = row["metrics"]
            if not rows:  # all arms have the same test split
                for text in verdict.few_records(verdict.cells(row)):
                    say(f"warning: {text}")
            for text in verdict.of_summary(row, unaware.get(arm.seed)):
                say(f"warning: {arm.name}: {text}")
            rows.append(
                {**row, "arm": "plaintext" if arm.release is None else "secure", "run": str(run.relative_to(out))}
            )
    result = {
        "version": VERSION,
        "rows": rows,
        "arms": by_arm.summarise(rows),
        "privacy": by_arm.privacy(rows),
        "overhead": overhead(rows),
        "environment": environment(),
    }
    write_json(out / "compare.json", result)
    by_arm.write_csv(rows, out / "compare.csv")
    plot_curves(rows, out)
    return result


def _seeded(settings: Settings, seed: int) -> Settings:
    return settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})


def environment() -> dict[str, Any]:
    """What the numbers depend on besides the code: command, commit, machine and versions."""
    return {
        "command": shlex.join(["secure-fair", *sys.argv[1:]]),
        "commit": commit(),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "versions": versions(),
    }


def overhead(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """method -> release -> secure seconds over plaintext seconds, per training step; medians over seeds."""
    plain: dict[str, list[float]] = {}
    secure: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if not row["cost"]["steps"]:
            continue
        seconds = row["cost"]["train_seconds"] / row["cost"]["steps"]
        if row["arm"] == "plaintext":
            plain.setdefault(row["method"], []).append(seconds)
        else:
            secure.setdefault((row["method"], row["release"]), []).append(seconds)
    ratios: dict[str, dict[str, float]] = {}
    for (method, release), values in secure.items():
        if method in plain:
            ratios.setdefault(method, {})[release] = statistics.median(values) / statistics.median(plain[method])
    return ratios


def plot_curves(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """OUT/curves-METHOD.png: the first seed's arms of each method over each other."""
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        first = [row for row in own if row["seed"] == own[0]["seed"]]
        if len(first) < 2:
            continue
        runs = {
            "plaintext" if row["arm"] == "plaintext" else f"secure, {row['release']}": out / row["run"] for row in first
        }
        try:
            curves.overlay(runs, out / f"curves-{method}.png", f"{method}, seed {own[0]['seed']}")
        except OSError as error:
            raise RunError(f"{out}: the plot could not be written ({error.strerror})") from None
