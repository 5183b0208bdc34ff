"""Training curves of several arms over each other: where plaintext and secure agree, one line covers the other."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from secure_fair.errors import RunError

PANELS = (("task_loss", "task loss"), ("fairness_value", "fairness value"))


def read_steps(run: Path) -> dict[str, list[float]]:
    """Columns of RUN/developer/steps.csv. Raises RunError."""
    path = run / "developer" / "steps.csv"
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}
    except (OSError, ValueError, TypeError):
        raise RunError(f"{path}: missing or damaged, so the run is not complete; start it again") from None


def overlay(runs: Mapping[str, Path], file: Path, title: str) -> None:
    """One panel for the task loss and one for the fairness value; the first run thick and light, the others thin."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(PANELS))
    for number, (label, run) in enumerate(runs.items()):
        steps = read_steps(run)
        style = {"linewidth": 4.0, "alpha": 0.35} if number == 0 else {"linewidth": 1.0}
        for axis, (column, name) in zip(axes, PANELS, strict=True):
            axis.plot(steps["step"], steps[column], label=label, **style)
            axis.set(xlabel="step", ylabel=name)
    axes[1].set_yscale("symlog", linthresh=1e-4)
    axes[0].legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(file, dpi=130)
