"""The frontier in one picture, to be understood without the text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.frontier.grid import METHOD
from benchmarks.frontier.measures import BIAS, UTILITY

Row = dict[str, Any]

# label, colour (told apart by colour-blind readers too), marker, shift along the axis of epsilon, offset of a text
_RELEASES = {
    "moment": ("ORTH with `moment`: secure computation, noise once", "#0072b2", "o", 0.96, (5, -12)),
    "randomized-response": ("ORTH with randomized response: no secure computation", "#d55e00", "s", 1.04, (5, 5)),
}
_REFERENCES = {
    "erm": ("ERM: attributes are not used", "#444444", "-"),
    METHOD: ("ORTH, exact attributes: no privacy", "#009e73", "--"),
    "adv": ("ADV, exact attributes: no privacy", "#aa4499", ":"),
}
_NO_NOISE = 2.5  # times the largest epsilon: where no noise is drawn
_BIAS = "bias: equalized-odds difference"


def draw(rows: Sequence[Row], rank_epsilon: float, note: str, files: Sequence[Path]) -> None:
    """Draw `rows` (summary.points), with a note below, into each file, in the format of its name."""
    with rc_context(
        {"font.size": 10.5, "svg.hashsalt": "frontier", "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(14, 10.5), layout="constrained")
        FigureCanvasAgg(figure)
        (bias, utility), (trade, leak) = figure.subplots(2, 2)
        _title(bias, "How biased is the model?", "lower is better")
        _against_epsilon(bias, rows, BIAS, _BIAS)
        chance = _reference(rows, METHOD)["metrics"]["chance_" + BIAS]["mean"]
        bias.axhline(chance, color="#999999", linewidth=0.8, label="what an unbiased model shows by chance")
        _title(utility, "How accurate is it?", "higher is better")
        _against_epsilon(utility, rows, UTILITY, "accuracy")
        _title(trade, "What does fairness cost?", "lower right is better; numbers are epsilon")
        _trade(trade, rows)
        _leakage(leak, rows, rank_epsilon)
        _title(
            leak, "What is learned about people outside the data?", f"lower left is better; epsilon {rank_epsilon:g}"
        )
        for axes in (bias, trade, leak):
            axes.set_ylim(bottom=0)
        figure.supxlabel(note, fontsize=9.5, color="#555555")
        figure.legend(*bias.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
        for file in files:
            figure.savefig(file, dpi=130, metadata={"Date": None} if file.suffix == ".svg" else None)


def _title(axes: Axes, question: str, reading: str) -> None:
    axes.set_title(f"{question}\n", loc="left", fontweight="bold")
    axes.text(0, 1.02, reading, transform=axes.transAxes, color="#555555")


def _against_epsilon(axes: Axes, rows: Sequence[Row], measure: str, label: str) -> None:
    epsilons = sorted({row["epsilon"] for row in rows if row["release"] != "none"})
    largest = max((epsilon for epsilon in epsilons if math.isfinite(epsilon)), default=1.0)
    for row in _references(rows):
        name, colour, style = _REFERENCES[row["method"]]
        value = row["metrics"][measure]
        axes.axhline(value["mean"], color=colour, linestyle=style, linewidth=1.8, label=name)
        if value["low"] is not None:
            axes.axhspan(value["low"], value["high"], color=colour, alpha=0.08, linewidth=0)
    for release, (name, colour, marker, shift, _) in _RELEASES.items():
        own = [row for row in rows if row["release"] == release and row["rank"] == 0]
        own.sort(key=lambda row: row["epsilon"])
        x = [min(row["epsilon"], largest * _NO_NOISE) * shift for row in own]
        values = [row["metrics"][measure] for row in own]
        axes.errorbar(
            x, [value["mean"] for value in values], _bars(values), color=colour, marker=marker, capsize=3, label=name
        )
    axes.set_xscale("log")
    axes.set_xticks([min(epsilon, largest * _NO_NOISE) for epsilon in epsilons])
    axes.set_xticklabels([f"{epsilon:g}" if math.isfinite(epsilon) else "no\nnoise" for epsilon in epsilons])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="epsilon: smaller protects each person's attribute more", ylabel=label)


def _trade(axes: Axes, rows: Sequence[Row]) -> None:
    for row in _references(rows):
        _, colour, _ = _REFERENCES[row["method"]]
        accuracy, bias = row["metrics"][UTILITY], row["metrics"][BIAS]
        axes.errorbar(
            accuracy["mean"], bias["mean"], _bars([bias]), _bars([accuracy]), color=colour, marker="D", elinewidth=0.8
        )
        axes.annotate(
            row["method"].upper(), (accuracy["mean"], bias["mean"]), (7, 6), textcoords="offset points", color=colour
        )
    for release, (_, colour, marker, _, offset) in _RELEASES.items():
        own = [row for row in rows if row["release"] == release and row["rank"] == 0]
        own.sort(key=lambda row: row["epsilon"])
        x = [row["metrics"][UTILITY]["mean"] for row in own]
        y = [row["metrics"][BIAS]["mean"] for row in own]
        axes.plot(x, y, color=colour, marker=marker, linewidth=0.8, alpha=0.9)
        for row, *point in zip(own, x, y, strict=True):
            text = f"{row['epsilon']:g}" if math.isfinite(row["epsilon"]) else "no noise"
            axes.annotate(text, tuple(point), offset, textcoords="offset points", color=colour, fontsize=9)
    axes.set(xlabel="accuracy", ylabel=_BIAS)


def _leakage(axes: Axes, rows: Sequence[Row], epsilon: float) -> None:
    grey: dict[str, Any] = {"color": "#555555", "linestyle": ""}
    axes.plot([], [], marker="o", label="filled: by the predictor that the release gives", **grey)
    axes.plot(
        [], [], marker="o", fillstyle="none", label="hollow: by comparing the fair model with ERM (floor)", **grey
    )
    prior = _reference(rows, "erm")["leakage"]["prior_auc"]["mean"]
    axes.axvline(prior, color=grey["color"], linewidth=0.8, label="line: by ERM's own score, with no attribute at all")
    for row in _references(rows):
        if row["method"] != "erm":
            _, colour, _ = _REFERENCES[row["method"]]
            point = row["leakage"]["floor_auc"]["mean"], row["metrics"][BIAS]["mean"]
            axes.plot(*point, color=colour, marker="D", fillstyle="none", linestyle="")
            axes.annotate(row["method"].upper(), point, (7, 4), textcoords="offset points", color=colour)
    for release, (_, colour, marker, _, offset) in _RELEASES.items():
        for row in rows:
            if row["release"] != release or row["epsilon"] != epsilon:
                continue
            bias = row["metrics"][BIAS]["mean"]
            learned, floor = (row["leakage"][name]["mean"] for name in ("predictor_auc", "floor_auc"))
            axes.plot((floor, learned), (bias, bias), color=colour, linewidth=0.8)
            axes.plot(floor, bias, color=colour, marker=marker, fillstyle="none")
            axes.plot(learned, bias, color=colour, marker=marker)
            text = f"rank {row['rank']}" if row["rank"] else "all"
            axes.annotate(text, (learned, bias), offset, textcoords="offset points", color=colour, fontsize=9)
    axes.legend(loc="best", frameon=False, fontsize=9)
    axes.set(xlabel="how well: AUC for the attribute within a task class (0.5: nothing)", ylabel=_BIAS)


def _references(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["release"] == "none"]


def _reference(rows: Sequence[Row], method: str) -> Row:
    return next(row for row in _references(rows) if row["method"] == method)


def _bars(values: Sequence[dict[str, Any]]) -> list[list[float]] | None:
    """Distances from each mean to its interval's ends, [2, n]; None without intervals."""
    if any(value["low"] is None for value in values):
        return None
    below = [value["mean"] - value["low"] for value in values]
    return [below, [value["high"] - value["mean"] for value in values]]
