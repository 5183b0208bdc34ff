"""`secure-fair ledger`: what an auditor has released so far, and the privacy spent."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from secure_fair.privacy.accountant import UNIT
from secure_fair.privacy.ledger import FORMAT, Ledger, Release


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ledger(file: Path, as_json: bool) -> None:
    """Print the releases of an auditor's ledger and the epsilon spent per person.

    Neither ids nor attributes are printed.

    \b
    Example:
      secure-fair ledger runs/orth/auditor/ledger.sqlite
    """
    with Ledger(file, by_person=None) as opened:
        result = summary(opened)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    for release in result["releases"]:
        answered = "" if release["answered"] else "  (debited; no stored answer)"
        click.echo(
            f"{release['time']}  {release['kind']:<20} {release['persons']:>8} persons  "
            f"epsilon {_text(release['epsilon'])}{answered}"
        )
    epsilon = result["epsilon"]
    click.echo(
        f"{len(result['releases'])} releases, {result['persons']} persons; epsilon spent per person at delta "
        f"{result['delta']}: median {_text(epsilon['median'])}, largest {_text(epsilon['max'])}"
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
