"""`secure-fair train`: the plaintext baseline."""

from __future__ import annotations

from pathlib import Path

import click

from secure_fair import settings
from secure_fair.cli import console
from secure_fair.errors import InterruptedRunError
from secure_fair.fairness import verdict
from secure_fair.fairness.methods import METHODS

PATH = click.Path(path_type=Path)


@click.command(
    epilog="Example: secure-fair train -c settings.toml --method orth --attributes auditor/attributes.csv --out orth"
)
@click.option("-c", "--config", "file", type=PATH, required=True, help="Settings file.")
@click.option("--method", type=click.Choice(list(METHODS)), required=True, help="erm is unaware of fairness.")
@click.option("--attributes", type=PATH, help="The auditor's attributes.csv, read in the clear; erm needs none.")
@click.option("--out", type=PATH, required=True, help="Folder of the run; must not exist.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run in --out from its newest checkpoint.")
@console.json_option
def train(
    file: Path, method: str, attributes: Path | None, out: Path, overrides: tuple[str, ...], resume: bool, as_json: bool
) -> None:
    """Train in plaintext: one process that holds the images and the attributes.

    It is the baseline of the secure runs. Writes OUT/summary.json and OUT/developer/ (adapter, head, metrics, steps).
    """
    effective = settings.load(file, overrides)
    from secure_fair.training.baseline import run_plaintext
    from secure_fair.training.torchrun import joined

    try:
        with joined(effective) as processes:
            if processes is None:
                return
            with console.Reporter() as report:
                summary = run_plaintext(
                    effective,
                    method,
                    attributes or effective.attributes.file,
                    out,
                    report.stage(f"train {method}"),
                    resume=resume,
                    processes=processes,
                )
    except KeyboardInterrupt:
        raise InterruptedRunError(f"{out}: interrupted; the same command with --resume continues the run") from None
    for text in (*verdict.few_records(verdict.cells(summary)), *verdict.of_summary(summary)):
        console.warn(text)
    if as_json:
        console.print_json(summary)
        return
    shown = {name: value for name, value in summary["metrics"].items() if name != "by_group"}
    rows = [(name, "undefined" if value is None else f"{value:.4f}") for name, value in shown.items()]
    console.print_table(f"{method}, plaintext, test split", ("metric", "value"), rows)
    click.echo(f"wrote {out / 'summary.json'}")
