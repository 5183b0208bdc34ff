"""`secure-fair ledger`: what an auditor has released so far, and the privacy spent."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from secure_fair.cli import console
from secure_fair.privacy.accountant import UNIT
from secure_fair.privacy.ledger import Ledger, Release
from secure_fair.privacy.ledger_store import FORMAT


@click.command(epilog="Example: secure-fair ledger runs/orth/auditor/ledger.sqlite")
@click.argument("file", type=click.Path(path_type=Path))
@console.json_option
def ledger(file: Path, as_json: bool) -> None:
    """Print the releases of an auditor's ledger FILE and the epsilon spent per person; no ids, no attributes."""
    with Ledger(file, by_person=None) as opened:
        result = summary(opened)
    if as_json:
        console.print_json(result)
        return
    rows = [
        [row["time"], row["kind"], str(row["persons"]), _text(row["epsilon"]), "yes" if row["answered"] else "no"]
        for row in result["releases"]
    ]
    console.print_table("Releases", ["time", "kind", "persons", "epsilon", "answer stored"], rows)
    epsilon = result["epsilon"]
    click.echo(
        f"{result['persons']} persons have spent epsilon {_text(epsilon['median'])} (median), "
        f"{_text(epsilon['max'])} (largest), at delta {result['delta']}"
    )


def summary(opened: Ledger) -> dict[str, Any]:
    """Releases and the spent epsilon over persons (None: unbounded), as JSON values; no id and no attribute."""
    releases = opened.releases()
    delta = max((release.delta for release in releases), default=None)
    spent = sorted((cost.epsilon(delta), count) for cost, count in opened.balances()) if delta else []
    return {
        "version": FORMAT,
        "releases": [_release(release) for release in releases],
        "persons": sum(count for _, count in spent),
        "delta": delta,
        "epsilon": {"max": _bounded(spent[-1][0] if spent else 0.0), "median": _bounded(_median(spent))},
    }


def _release(release: Release) -> dict[str, Any]:
    cost = release.cost
    return {
        "time": release.time,
        "kind": release.kind,
        "persons": release.persons,
        "epsilon": _bounded(cost.epsilon(release.delta)),
        "delta": release.delta,
        "rho": cost.rho / UNIT if cost.bounded else None,
        "answered": release.answered,
    }


def _median(spent: list[tuple[float, int]]) -> float:
    """The lower median of sorted (value, count); 0 of none."""
    half = (sum(count for _, count in spent) + 1) // 2
    for value, count in spent:
        half -= count
        if half <= 0:
            return value
    return 0.0


def _bounded(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(epsilon: float | None) -> str:
    return "unbounded" if epsilon is None else f"{epsilon:.4g}"
