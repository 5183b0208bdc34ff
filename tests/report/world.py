"""Folders that a report is made from: built from the real writers, with numbers that a test chooses."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from secure_fair.privacy.disclosures import DisclosureLog
from secure_fair.training.loop import STEP_COLUMNS

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "benchmarks" / "results" / "demo"
STEPS = 300


def demo_rows() -> list[dict[str, Any]]:
    """The rows of the committed demo: ERM, ORTH in plaintext, and ORTH under each release."""
    rows: list[dict[str, Any]] = json.loads((DEMO / "compare.json").read_text())["rows"]
    return rows


def seeded(rows: list[dict[str, Any]], seeds: int) -> list[dict[str, Any]]:
    """The same arms for several seeds; seed s adds s hundredths to every difference and s percent to the time."""
    found = []
    for seed in range(seeds):
        for row in copy.deepcopy(rows):
            row["seed"] = seed
            for name, value in row["metrics"].items():
                if name.endswith("difference"):
                    row["metrics"][name] = value + 0.01 * seed
            row["cost"]["train_seconds"] *= 1 + 0.01 * seed
            found.append(row)
    return found


def shared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two seeds and a second method, ADV, all on the moment of the first seed of ORTH, as `compare` does it."""
    found = seeded(rows, 2)
    made = next(row for row in found if row["release"] == "moment")
    made["privacy"]["id"] = "0123"
    found += [copy.deepcopy(row) | {"method": "adv"} for row in found if row["release"] == "moment"]
    for row in found:
        if row["release"] == "moment" and row is not made:
            row["privacy"] = {"reused": "runs/3", **made["privacy"]}
    return found


def comparison(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """DIR with compare.json and a run folder for each row."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        row["run"] = f"runs/{number}"
        run_files(folder / "runs" / str(number), row, number)
    (folder / "compare.json").write_text(json.dumps({"version": 1, "rows": rows, "environment": {}}))
    return folder


def run_files(run: Path, row: dict[str, Any], shift: int = 0) -> None:
    """steps.csv, disclosures.jsonl and policy.toml, as the parties write them."""
    developer = run / "developer"
    developer.mkdir(parents=True)
    with (developer / "steps.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(STEP_COLUMNS)
        writer.writerows(
            (s, 1 + s // 100, 0.7 / s + shift / 50, 0.0 if shift == 0 else 1 / s, 0.1) for s in range(1, STEPS)
        )
    if row["arm"] == "secure":
        (run / "auditor").mkdir()
        (run / "auditor" / "policy.toml").write_text("[policy]\nepsilon = 4.0\n")
        with DisclosureLog(developer, row["release"], store=False) as log:
            for step in range(3):
                log.add(step, "a value", np.zeros((5, 7)), np.arange(5))
