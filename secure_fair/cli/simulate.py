"""`secure-fair simulate`: developer, auditor and dealer as three processes on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from secure_fair import settings
from secure_fair.cli import console
from secure_fair.errors import InterruptedRunError
from secure_fair.fairness import verdict
from secure_fair.fairness.methods import METHODS, RELEASES

PATH = click.Path(path_type=Path)


@click.command(
    epilog="Example: secure-fair simulate -c settings.toml --method orth --release moment --out runs/orth-moment"
)
@click.option("-c", "--config", "file", type=PATH, required=True, help="Settings file that all three parties read.")
@click.option("--method", type=click.Choice(list(METHODS)), required=True, help="What to train with.")
@click.option(
    "--release",
    required=True,
    help=f"What the developer gets to see: a decision, so there is no default. One of {', '.join(RELEASES)}.",
)
@click.option("--policy", type=PATH, help="The auditor's policy; without one, exactly this run is allowed.")
@click.option("--out", type=PATH, required=True, help="Folder of the run; must not exist.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run in --out.")
@click.option(
    "--reuse",
    type=PATH,
    help="An earlier run on the same records whose moment, randomized-response or predictor serves this one.",
)
@console.json_option
def simulate(
    file: Path,
    method: str,
    release: str,
    policy: Path | None,
    out: Path,
    overrides: tuple[str, ...],
    resume: bool,
    reuse: Path | None,
    as_json: bool,
) -> None:
    """Train with secret-shared attributes: three processes, real transport, group metrics at the end.

    Writes OUT/summary.json and a folder for each party.
    """
    effective = settings.load(file, overrides)
    from parties.simulation import Simulation
    from parties.simulation import simulate as run

    try:
        summary = run(Simulation(effective, file, overrides, method, release, out, policy, resume, reuse))
    except KeyboardInterrupt:
        raise InterruptedRunError(f"{out}: interrupted; all three parties have been stopped") from None
    for text in (*verdict.few_records(verdict.cells(summary)), *verdict.of_summary(summary)):
        console.warn(text)
    if as_json:
        console.print_json(summary)
        return
    shown = {name: value for name, value in summary["metrics"].items() if name != "by_group"}
    rows = [(name, "undefined" if value is None else f"{value:.4f}") for name, value in shown.items()]
    console.print_table(f"{method}, release {release}, test split", ("metric", "value"), rows)
    click.echo(f"wrote {out / 'summary.json'}")
