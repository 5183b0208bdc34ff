"""The study's files: frontier.csv, frontier.json, frontier.png and frontier.svg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.frontier import plot, summary
from benchmarks.frontier.grid import METHOD, Grid
from benchmarks.frontier.measures import BIAS, HELD_OUT, UTILITY
from benchmarks.frontier.study import Study
from benchmarks.frontier.trainings import ATTRIBUTE, TASK, Progress
from secure_fair.cli.console import plain
from secure_fair.cli.demo import CORRELATION
from secure_fair.files import write_json

VERSION = 1
WEIGHTS = (
    "the default of each method and release; the same for every epsilon, rank and seed. ORTH's defaults were chosen by "
    "group metrics on data of this kind: outside a simulation such a choice is itself an audit release"
)
COLUMNS = ("arm", "epsilon", "rank", "accuracy", "eq. odds diff.", "predictor AUC", "floor AUC")


def make(grid: Grid, overrides: tuple[str, ...], work: Path, out: Path, progress: Progress) -> dict[str, Any]:
    """Train what is missing, write the files into `out` and return what frontier.json holds."""
    study = Study(grid, overrides, work)
    trainings = study.run(progress)
    rows = summary.points(trainings)
    result: dict[str, Any] = plain(
        {
            "version": VERSION,
            "rows": rows,
            "moment_minus_randomized_response": summary.paired(trainings),
            "interval": summary.INTERVAL,
            "weights": WEIGHTS,
            "held_out": HELD_OUT,
            "study": study.describe(),
            "environment": environment.describe(),
            "trainings": trainings,
        }
    )
    out.mkdir(parents=True, exist_ok=True)
    summary.write_csv(rows, out / "frontier.csv")
    plot.draw(rows, grid.rank_epsilon, note(grid, rows), (out / "frontier.png", out / "frontier.svg"))
    write_json(out / "frontier.json", result)
    return result


def note(grid: Grid, rows: Sequence[dict[str, Any]]) -> str:
    """What stands below the plot."""
    weights = {row["release"]: row["weight"] for row in rows if row["method"] == METHOD}
    told = ", ".join(f"{'exact' if release == 'none' else release} {value:g}" for release, value in weights.items())
    return (
        f"Task {TASK}, attribute {ATTRIBUTE}; procedural faces: in the training data task and attribute agree for "
        f"{CORRELATION:.0%} of the people, in the held-out data they are independent. "
        f"Means over {grid.seeds} seeds,\nwith 95 % t intervals as bars and bands. "
        f"Weight of ORTH at every epsilon and rank: {told}."
    )


def lines(result: dict[str, Any]) -> list[Sequence[str]]:
    """Cells of COLUMNS for each arm: means, and the intervals in brackets."""
    return [
        (
            f"{row['method']}, {'plaintext' if row['release'] == 'none' else row['release']}",
            "" if row["release"] == "none" else "none" if row["epsilon"] is None else f"{row['epsilon']:g}",
            "" if row["release"] == "none" else str(row["rank"] or "all"),
            _cell(row["metrics"][UTILITY]),
            _cell(row["metrics"][BIAS]),
            _cell(row["leakage"].get("predictor_auc")),
            _cell(row["leakage"]["floor_auc"]),
        )
        for row in result["rows"]
    ]


def _cell(value: dict[str, float | None] | None) -> str:
    if value is None or value["mean"] is None:
        return ""
    mean = f"{value['mean']:.3f}"
    return mean if value["low"] is None else f"{mean} [{value['low']:.3f}, {value['high']:.3f}]"
