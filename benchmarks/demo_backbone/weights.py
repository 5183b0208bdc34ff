"""Measures the default weights of the fairness terms, and the demo's training settings, on the demo's own data.

    python -m benchmarks.demo_backbone.weights --work DIR

For each seed: faces as the demo draws them (another draw and another start of the training for each), then ERM and each
method at several weights, in plaintext. Writes results/weights.json with one row per training, and prints the mean and
the range over the seeds. The weights are judged on the val split; the test split is for the record.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from secure_fair import settings
from secure_fair.cli import demo
from secure_fair.data.drawn import drawn
from secure_fair.data.faces import FaceSettings
from secure_fair.data.prepare import PrepareSettings
from secure_fair.training.baseline import run_plaintext
from secure_fair.training.run_folder import read_table
from secure_fair.training.summary import commit, group_metrics, versions

RESULTS = Path(__file__).parent / "results" / "weights.json"
WEIGHTS = {"erm": [0.0], "orth": [50.0, 100.0, 200.0, 400.0, 800.0], "adv": [1.0, 3.0, 10.0, 30.0]}
METRICS = ("accuracy", "equalized_odds_difference", "true_positive_rate_difference", "false_positive_rate_difference")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="Folder for faces and runs; what is there is kept.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        folder = options.work / f"seed-{seed}"
        draw(folder, seed)
        for method, weights in WEIGHTS.items():
            for weight in weights:
                overrides = (f"training.seed={seed}", f"fairness.weight={weight}", *options.overrides)
                rows.append({"method": method, "weight": weight, "seed": seed} | measure(folder, method, overrides))
                print(json.dumps(rows[-1]), flush=True)  # noqa: T201 a script
    report = {
        "command": "python -m benchmarks.demo_backbone.weights --work DIR",
        "overrides": options.overrides,
        "settings": demo.SETTINGS.splitlines(),
        "faces": {"count": demo.IMAGES, "correlation": demo.CORRELATION, "overlap": demo.OVERLAP},
        "rows": rows,
        "versions": versions(),
        "commit": commit(),
        "hardware": f"{platform.machine()}, one core",
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    show(rows)


def draw(folder: Path, seed: int) -> None:
    """The demo's faces and the two parties' folders; what is there is kept."""
    faces = FaceSettings(
        count=demo.IMAGES, seed=seed, correlation=demo.CORRELATION, overlap=demo.OVERLAP, balanced_test=True
    )
    drawn(folder, faces, PrepareSettings("Smiling", ("Male",), seed=seed))
    (folder / "settings.toml").write_text(demo.SETTINGS)


def measure(folder: Path, method: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Train once; val and test metrics. A run that is there already is not repeated."""
    effective = settings.load(folder / "settings.toml", overrides)
    run = folder / "runs" / "-".join([method, *(text.partition(".")[2] for text in overrides)])
    file = effective.attributes.file
    if file is None:
        raise SystemExit("the demo's settings name no attributes")
    if not (run / "summary.json").exists():
        run_plaintext(effective, method, file, run, lambda done, total: None, resume=run.exists())
    summary = json.loads((run / "summary.json").read_text())
    table = read_table(file, effective.attributes.columns)
    found: dict[str, Any] = {"train_seconds": round(summary["cost"]["train_seconds"], 1)}
    for split in ("val", "test"):
        values = group_metrics(run / "developer" / "predictions.csv", table, "Male", split)
        found[split] = {name: round(values[name], 4) for name in METRICS}
    return found


def show(rows: list[dict[str, Any]]) -> None:
    """Mean and range over the seeds, test split."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["method"], row["weight"]].append(row["test"])
    for (method, weight), found in groups.items():
        cells = []
        for name in METRICS[:2]:
            values = np.array([row[name] for row in found])
            cells.append(f"{name} {values.mean():.3f} ({values.min():.3f} to {values.max():.3f})")
        print(f"{method:5} {weight:6g}  " + "  ".join(cells))  # noqa: T201 a script


if __name__ == "__main__":
    main()
