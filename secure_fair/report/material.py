"""What a report is made from: the folder of a comparison, a run or an audit, read and checked before it is drawn."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secure_fair.errors import RunError
from secure_fair.privacy import disclosures
from secure_fair.report.arms import Arm, Row, group, unaccounted
from secure_fair.report.curves import read_steps

COMPARISON, RUN, AUDIT, EXPERIMENT = "compare.json", "summary.json", "audit.json", "results.json"
VERSION = 1


@dataclass(frozen=True)
class Opened:
    """What one run's log says was opened to the developer under one name."""

    name: str
    times: int
    numbers: int  # in all


@dataclass(frozen=True)
class Material:
    """All that a page shows. Curves, disclosures and policies are those of the runs that are still there, by row.

    pairs: of an experiment, the rows of each pair of task and attribute.
    """

    source: Path
    rows: tuple[Row, ...] = ()
    audit: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[int, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    opened: Mapping[int, Sequence[Opened]] = field(default_factory=dict)
    policies: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    pairs: Mapping[str, Material] = field(default_factory=dict)

    @property
    def arms(self) -> list[Arm]:
        return group(self.rows)

    def of_arm(self, arm: Arm) -> list[int]:
        """Numbers of an arm's rows."""
        return [number for number, row in enumerate(self.rows) if any(row is own for own in arm.rows)]

    @property
    def attributes(self) -> tuple[str, ...]:
        """The sensitive attributes, in the settings' order."""
        columns = self.rows[0]["config"]["attributes"]["columns"] if self.rows else ()
        return tuple(str(column) for column in columns)


def load(folder: Path) -> Material:
    """Read what DIR holds. Raises RunError that names what is missing or damaged, and the mend."""
    audit = _audit(folder / AUDIT) if (folder / AUDIT).is_file() else None
    if (folder / COMPARISON).is_file():
        found = _json(folder / COMPARISON)
        rows, environment = found.get("rows"), found.get("environment") or {}
        places = [_inside(folder, row.get("run")) for row in rows] if isinstance(rows, list) else []
    elif (folder / RUN).is_file():
        rows, environment, places = [_json(folder / RUN)], {}, [folder]
    elif (folder / EXPERIMENT).is_file():
        return _experiment(folder)
    elif audit is not None:
        return Material(folder, audit=audit)
    else:
        raise RunError(
            f"{folder}: no {COMPARISON}, {RUN}, {EXPERIMENT} or {AUDIT} in it; name the --out folder of a finished "
            "`secure-fair compare`, `simulate`, `train`, `experiment` or `audit` (a party's own folder has no group "
            "metrics to show)"
        )
    rows = _checked(folder, rows)
    there = {number: run for number, run in enumerate(places) if run is not None and (run / "developer").is_dir()}
    return Material(
        folder,
        rows,
        audit,
        environment,
        {n: read_steps(run) for n, run in there.items() if (run / "developer" / "steps.csv").is_file()},
        {n: _opened(run / "developer") for n, run in there.items()},
        {n: _policy(run / "auditor" / "policy.toml") for n, run in there.items()},
    )


def _experiment(folder: Path) -> Material:
    """Rows of results.json, all of them and pair by pair; runs are not looked into."""
    rows = _checked(folder, _json(folder / EXPERIMENT).get("rows"))
    pairs: dict[str, list[Row]] = {}
    for row in rows:
        pairs.setdefault(str(row.get("pair", "")), []).append(row)
    return Material(folder, rows, pairs={name: Material(folder, tuple(own)) for name, own in pairs.items()})


def _audit(file: Path) -> Mapping[str, Any]:
    """audit.json, if it is one of this version."""
    found = _json(file)
    blocks = [found.get(name) for name in ("metrics", "by_group", "counts", "intervals", "cost", "privacy")]
    if found.get("version") != VERSION or not all(isinstance(block, dict) for block in blocks):
        raise RunError(f"{file}: no audit of version {VERSION}; run the audit again with this program")
    return found


def _checked(folder: Path, rows: Any) -> tuple[Row, ...]:
    """The rows, if they look like summaries of this version."""
    if not isinstance(rows, list) or not rows:
        raise RunError(f"{folder}: has no results yet; let the command that makes it finish")
    for row in rows:
        if row.get("version") != VERSION:
            raise RunError(f"{folder}: a summary of version {row.get('version')}, this program reads {VERSION}")
        missing = [key for key in ("method", "release", "arm", "seed", "metrics", "cost", "config") if key not in row]
        if missing:
            raise RunError(f"{folder}: a summary without {', '.join(missing)}; run that arm again")
        if unaccounted(row):
            raise RunError(
                f"{folder}: a summary of {row['method']}, {row['release']}, seed {row['seed']} that does not say what "
                "the release it reuses has cost, so of an older version; run that arm again"
            )
    return tuple(rows)


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RunError(f"{file}: cannot be read as JSON; run the command that writes it again") from None
    if not isinstance(found, dict):
        raise RunError(f"{file}: holds no JSON object; run the command that writes it again")
    return found


def _inside(folder: Path, name: Any) -> Path | None:
    """A run's folder, if it lies in the comparison's: a file that was sent to us names no other places."""
    if not isinstance(name, str):
        return None
    run = (folder / name).resolve()
    return run if run.is_relative_to(folder.resolve()) else None


def _opened(developer: Path) -> list[Opened]:
    found: dict[str, tuple[int, int]] = {}
    if (developer / disclosures.LOG_NAME).is_file():
        for value in disclosures.read(developer):
            times, numbers = found.get(value.name, (0, 0))
            found[value.name] = times + 1, numbers + math.prod(value.shape)
    return [Opened(name, *counts) for name, counts in found.items()]


def _policy(file: Path) -> Mapping[str, Any]:
    """The policy's table as written; empty where the run had none here."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("policy", {})
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    return table if isinstance(table, dict) else {}
