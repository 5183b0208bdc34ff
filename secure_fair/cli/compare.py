"""`secure-fair compare`: plaintext against secure, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secure_fair import settings
from secure_fair.cli import console
from secure_fair.cli.arms_table import print_arms
from secure_fair.errors import InterruptedRunError, SettingsError

if TYPE_CHECKING:
    from parties.comparison import Arm

PATH = click.Path(path_type=Path)


@click.command(
    epilog="Example: secure-fair compare -c settings.toml --methods erm,orth --releases gradient --seeds 3 --out cmp"
)
@click.option("-c", "--config", "file", type=PATH, required=True, help="Settings file that all parties read.")
@click.option("--methods", default="erm,orth", show_default=True, help="Comma-separated; erm is the reference.")
@click.option(
    "--releases",
    default="moment,randomized-response",
    show_default=True,
    help="Comma-separated, for the secure arms. These two have differential privacy (privacy.epsilon) for each person; "
    "`gradient`, which gives the developer every attribute, and adapter releases have to be named.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings of each arm.")
@click.option("--out", type=PATH, required=True, help="Folder; complete arms in it are not run again.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting.")
@console.json_option
def compare(
    file: Path, methods: str, releases: str, seeds: int, out: Path, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Train every method in plaintext and under every release; report utility, bias, privacy, rounds, bytes, time.

    Writes OUT/compare.json, OUT/compare.csv, OUT/curves-METHOD.png and a run folder for each arm.
    """
    effective = settings.load(file, overrides)
    chosen = [name.strip() for name in methods.split(",") if name.strip()]
    if not chosen:
        raise SettingsError("--methods names none")
    wanted = [name.strip() for name in releases.split(",") if name.strip()]
    from parties.comparison import arms

    result = run(effective, file, overrides, arms(chosen, wanted, seeds, effective.training.seed), out)
    if as_json:
        console.print_json(result)
        return
    print_arms(result, f"test split, {seeds} seed{'s' if seeds > 1 else ''}")
    click.echo(f"wrote {out / 'compare.json'}, compare.csv and the training curves beside it")
    click.echo(f"a page to read: secure-fair report {out}")


def run(
    effective: settings.Settings, file: Path, overrides: tuple[str, ...], arms: Sequence[Arm], out: Path
) -> dict[str, Any]:
    """Run the arms with progress on standard error."""
    from parties import comparison

    try:
        with console.Reporter() as report:
            return comparison.compare(effective, file, overrides, arms, out, report.line, report)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"{out}: interrupted; the same command goes on with the next arm") from None
