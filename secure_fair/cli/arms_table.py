"""The tables that `compare` and `demo` print; they fit into 100 columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from secure_fair.cli import console
from secure_fair.report.arms import BIAS, UNKEPT, UTILITY, Arm, field, group, reference, twin, unkept
from secure_fair.report.statistics import LEAST, Estimate

WIDTH = 100
LEGEND = {
    "±": "95 % interval over seeds (Student's t); it says nothing of other data sets",
    "-erm, -plain": "paired difference, seed by seed, of the column before it, to ERM and to the plaintext twin",
    "recovered": "share of people in the training data whose attribute the best attack reads off what was opened",
    "in-out": "recovered, minus the same for people outside of the data: what being in the data costs",
}


def print_arms(result: dict[str, Any], title: str) -> None:
    """Utility and bias of each arm, then privacy and cost."""
    arms = group(result["rows"])
    erm = reference(arms)
    seeds = max(len(arm.rows) for arm in arms)
    differences = seeds > 1
    metrics = {"accuracy": UTILITY, "eq. odds diff.": BIAS}
    if not differences:
        metrics = {"accuracy": UTILITY, "worst group": "worst_group_accuracy", "eq. odds diff.": BIAS}
    console.print_table(
        title,
        ["arm", *metrics, *(("-erm", "-plain") if differences else ())],
        [_bias(arm, metrics.values(), (erm, twin(arm, arms)) if differences else ()) for arm in arms],
        compact=True,
    )
    secure = ["arm", "epsilon", "recovered", "in-out", "rounds", "MB", "secs", "overhead"]
    console.print_table("Privacy and cost", secure, [_cost(arm, twin(arm, arms)) for arm in arms], compact=True)
    for key, text in LEGEND.items():
        if seeds < {"±": LEAST, "-erm, -plain": 2}.get(key, 1):
            continue
        click.echo(click.wrap_text(f"{key}: {text}", WIDTH, subsequent_indent="  "))
    if unkept(result["rows"]):
        text = f"recovered, in-out: empty where nothing was attacked. {UNKEPT}"
        click.echo(click.wrap_text(text, WIDTH, subsequent_indent="  "))
    if 1 < seeds < LEAST:
        click.echo(f"{seeds} seeds are too few for an interval: means only; {LEAST} or more have one.")
    if any(arm.reused for arm in arms):
        click.echo("A private release was made once and serves several trainings: the intervals leave out its noise.")


def _bias(arm: Arm, metrics: Iterable[str], others: Iterable[Arm | None]) -> tuple[str, ...]:
    cells = (arm.name, *(_interval(arm.metric(name)) for name in metrics))
    differences = (None if other in (None, arm) else arm.minus(other, BIAS) for other in others)
    return (*cells, *(_interval(difference, sign=True) for difference in differences))


def _cost(arm: Arm, plaintext: Arm | None) -> tuple[str, ...]:
    def value(form: str, *path: str) -> str:
        found = arm.over_seeds(lambda row: field(row, *path))
        return "" if found is None else format(found.mean, form)

    sent = arm.over_seeds(lambda row: _total(field(row, "cost", "bytes_sent"), field(row, "cost", "bytes_received")))
    ratio = None if plaintext is None else arm.overhead(plaintext)
    return (
        arm.name,
        "" if not arm.secure else "none" if arm.epsilon is None else f"{arm.epsilon:.2g}",
        value(".3f", "leakage", "attribute_recovery", "accuracy"),
        value("+.3f", "leakage", "in_minus_out", "difference"),
        value(".3g", "cost", "rounds_per_step"),
        "" if sent is None else f"{sent.mean / 1e6:.1f}",
        value(".1f", "cost", "train_seconds"),
        _interval(ratio, digits=2),
    )


def _total(sent: float | None, received: float | None) -> float | None:
    return None if sent is None or received is None else sent + received


def _interval(value: Estimate | None, *, sign: bool = False, digits: int = 3) -> str:
    if value is None:
        return ""
    text = f"{value.mean:+.{digits}f}" if sign else f"{value.mean:.{digits}f}"
    return text if value.half is None else f"{text} ±{value.half:.{digits}f}"
