"""What `training.delayed` does to accuracy and bias: the same seeds with and without it, in plaintext.

python -m benchmarks.network.effect --config demo/settings.toml --out effect

Secure runs equal their plaintext twins, late gradients or not (`tests/parties/test_simulate.py`).
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import environment
from secure_fair import settings as settings_module
from secure_fair.files import write_json
from secure_fair.training.baseline import run_plaintext

VERSION = 1
METHODS = ("orth", "adv")
SEEDS = (0, 1, 2)
MEASURES = ("accuracy", "equalized_odds_difference", "demographic_parity_difference")
COLUMNS = ("method", "gradient", "accuracy", "equalized-odds gap", "parity gap")


def lines(found: dict[str, Any]) -> list[Sequence[str]]:
    """Cells of COLUMNS: mean over seeds, and each seed."""
    cells: list[Sequence[str]] = []
    for method in METHODS:
        for delayed in (False, True):
            rows = [row for row in found["rows"] if (row["method"], row["delayed"]) == (method, delayed)]
            values = [[row[name] for row in rows] for name in MEASURES]
            shown = [f"{statistics.mean(each):.3f} ({', '.join(f'{one:.3f}' for one in each)})" for each in values]
            cells.append((method, "one step later" if delayed else "at once", *shown))
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="settings of a prepared data set")
    parser.add_argument("--out", type=Path, required=True, help="folder for effect.json and the runs")
    chosen = parser.parse_args()
    rows = []
    for method in METHODS:
        for delayed in (False, True):
            for seed in SEEDS:
                own = (f"training.seed={seed}", f"training.delayed={str(delayed).lower()}")
                options = settings_module.load(chosen.config, own)
                run = chosen.out / f"{method}-{delayed}-{seed}"
                metrics = run_plaintext(options, method, options.attributes.file, run, lambda *_: None)["metrics"]
                rows.append({"method": method, "delayed": delayed, "seed": seed, **{m: metrics[m] for m in MEASURES}})
    command = shlex.join(["python", "-m", "benchmarks.network.effect", *sys.argv[1:]])
    described = environment.describe() | {"command": command}
    write_json(chosen.out / "effect.json", {"version": VERSION, "rows": rows, "environment": described})


if __name__ == "__main__":
    main()
