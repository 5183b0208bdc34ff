"""`secure-fair compare`: plaintext against secure, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secure_fair import settings
from secure_fair.cli import console
from secure_fair.errors import InterruptedRunError, SettingsError
from secure_fair.fairness.methods import METHODS

if TYPE_CHECKING:
    from parties.comparison import Arm

PATH = click.Path(path_type=Path)


@click.command(
    epilog="Example: secure-fair compare -c settings.toml --methods erm,orth --releases gradient --seeds 3 --out cmp"
)
@click.option("-c", "--config", "file", type=PATH, required=True, help="Settings file that all parties read.")
@click.option("--methods", default="erm,orth", show_default=True, help="Comma-separated; erm is the reference.")
@click.option("--releases", default="gradient", show_default=True, help="Comma-separated, for the secure arms.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings of each arm.")
@click.option("--out", type=PATH, required=True, help="Folder; complete arms in it are not run again.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting.")
@console.json_option
def compare(
    file: Path, methods: str, releases: str, seeds: int, out: Path, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Train every method in plaintext and under every release; report utility, bias, privacy, rounds, bytes, time.

    Writes OUT/compare.json, OUT/curves-METHOD.png and a run folder for each arm.
    """
    effective = settings.load(file, overrides)
    chosen = [name.strip() for name in methods.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in METHODS]
    if unknown or not chosen:
        raise SettingsError(f"--methods {methods!r}: choose from {', '.join(METHODS)}")
    wanted = [name.strip() for name in releases.split(",") if name.strip()]
    known = {release for method in METHODS.values() for release in method.releases}
    if set(wanted) - known:
        raise SettingsError(f"--releases {releases!r}: choose from {', '.join(sorted(known - {'none'}))}")
    from parties.comparison import arms

    result = run(effective, file, overrides, list(arms(chosen, wanted, seeds, effective.training.seed)), out)
    if as_json:
        console.print_json(result)
        return
    print_rows(result, f"test split, {seeds} seed{'s' if seeds > 1 else ''}")
    click.echo(f"wrote {out / 'compare.json'}")


def run(
    effective: settings.Settings, file: Path, overrides: tuple[str, ...], arms: Sequence[Arm], out: Path
) -> dict[str, Any]:
    """Run the arms with progress on standard error."""
    from parties import comparison
    from parties.simulation import GRADIENT_WARNING

    if any(arm.release == "gradient" for arm in arms):
        console.warn(GRADIENT_WARNING)
    try:
        with console.Reporter() as report:
            return comparison.compare(effective, file, overrides, arms, out, report.line, report)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"{out}: interrupted; the same command goes on with the next arm") from None


def print_rows(result: dict[str, Any], title: str) -> None:
    """One line an arm: means over seeds, with the standard deviation where there are several."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        groups.setdefault((row["method"], row["arm"], row["release"]), []).append(row)
    lines = []
    for (method, arm, release), rows in groups.items():
        shown = "plaintext" if arm == "plaintext" else f"secure {release}"
        epsilon = rows[0].get("privacy", {}).get("epsilon") if arm == "secure" else None
        ratio = result["overhead"].get(method, {}).get(release) if arm == "secure" else None
        lines.append(
            (
                f"{method}, {shown}",
                _mean([row["metrics"]["accuracy"] for row in rows]),
                _mean([row["metrics"]["equalized_odds_difference"] for row in rows]),
                "" if arm == "plaintext" else "none" if epsilon is None else f"{epsilon:.2g}",
                _mean([row.get("leakage", {}).get("attribute_recovery", {}).get("accuracy") for row in rows]),
                f"{statistics.median(row['cost']['train_seconds'] for row in rows):.1f}",
                "" if ratio is None else f"{ratio:.2f}x",
            )
        )
    columns = ("arm", "accuracy", "eq. odds diff.", "epsilon", "recovered", "train s", "overhead")
    console.print_table(title, columns, lines)


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    text = f"{statistics.fmean(known):.3f}"
    return text if len(known) < 2 else f"{text} ({statistics.stdev(known):.3f})"
