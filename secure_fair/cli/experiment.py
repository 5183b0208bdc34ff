"""`secure-fair experiment`: a grid of tasks, attributes, methods, releases and seeds, and the table of it."""

from __future__ import annotations

from pathlib import Path

import click

from secure_fair.cli import console
from secure_fair.errors import InterruptedRunError

PATH = click.Path(path_type=Path)


@click.command(epilog="Example: secure-fair experiment benchmarks/experiments/small.toml --out experiment --workers 2")
@click.argument("file", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder; complete runs in it are not run again.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings at once.")
@click.option("--device", "devices", multiple=True, help="Of a worker's trainings, in turn; repeat it.")
@click.option("--table-only", is_flag=True, help="Run nothing; write the table of the runs that are complete.")
@console.json_option
def experiment(file: Path, out: Path, workers: int, devices: tuple[str, ...], table_only: bool, as_json: bool) -> None:
    """Run the grid of FILE: data, choice of weights on the validation split, trainings, the table.

    Writes OUT/results.json, choices.json, table.csv, table.tex and table.html, and a run folder for each training.
    """
    from parties import experiment as grid
    from parties.experiment_file import load
    from secure_fair.report import experiment as table

    plan = load(file)
    try:
        with console.Reporter() as report:
            report.line(plan.rule)
            if table_only:
                result = grid.table_of_complete(plan, out, report.line)
            else:
                result = grid.run_experiment(plan, out, report.line, report, workers=workers, devices=devices)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"{out}: interrupted; the same command goes on with the next training") from None
    lines = table.write(result, out)
    if as_json:
        console.print_json(result)
        return
    shown = ("pair", "method", "arm", "weight", "balanced accuracy", "eq. odds difference", "p bias", "p equivalence")
    at = [table.HEADER.index(name) for name in shown]
    console.print_table("test split", shown, [[table.cells(line)[i] for i in at] for line in lines])
    click.echo(f"wrote {out / 'results.json'}, table.csv, table.tex, table.html")
