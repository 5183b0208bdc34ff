"""`secure-fair leakage`: the attacks on what a run disclosed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from secure_fair.cli import console
from secure_fair.errors import SettingsError

PATH = click.Path(path_type=Path)


@click.command(epilog="Example: secure-fair leakage runs/orth-moment --reference runs/erm")
@click.argument("run", type=PATH)
@click.option("--attributes", type=PATH, help="attributes.csv, to score the attacks; by default the run's own.")
@click.option("--reference", type=PATH, help="A run of erm on the same data, for the floor of predictor leakage.")
@console.json_option
def leakage(run: Path, attributes: Path | None, reference: Path | None, as_json: bool) -> None:
    """Attack what RUN disclosed to its developer, and say how much of it is right.

    Reads the developer's log with the values that were opened (privacy.store_values) and scores the attacks with the
    auditor's table: for simulations, whose user holds both.
    """
    from secure_fair.leakage.material import settings_of
    from secure_fair.leakage.run import attack_run
    from secure_fair.training.run_folder import read_table

    settings = settings_of(run)
    file = attributes or settings.attributes.file
    if file is None:
        raise SettingsError("the run names no attributes; name the auditor's attributes.csv with --attributes")
    columns = settings.attributes.columns
    result = attack_run(run, read_table(file, columns), columns, reference, settings)
    if as_json:
        console.print_json(result)
        return
    for column, block in result.get("by_attribute", {columns[0]: result}).items():
        _print(column, block)


def _print(column: str, block: dict[str, Any]) -> None:
    if "row_space" in block:
        space = block["row_space"]
        click.echo(
            f"{block['attribute_recovery']['attack']}: {space['recovered']:.3f} of it recovered, "
            f"{space['by_chance']:.3f} by chance"
        )
        return
    recovery, difference, within = block["attribute_recovery"], block["in_minus_out"], block["within_classes"]
    rows = [(recovery["attack"], _number(recovery["accuracy"]), _number(recovery["auc"]))]
    rows += [
        (line["attack"], _number(line.get("accuracy")), line.get("reason") or _number(line["auc"]))
        for line in block["attacks"]
    ]
    console.print_table(f"{column}: people in the data; the prior: test people", ("attack", "accuracy", "AUC"), rows)
    bound = "nothing bounds it" if recovery["bound"] is None else f"at most {recovery['bound']:.4f} by the guarantee"
    if not recovery["in_release"]:
        bound = "by chance: the release was made from the auditor's people, and from none of these"
    click.echo(
        f"accuracy in the data minus outside: {_number(difference['difference'])} "
        f"({_number(difference['low'])} to {_number(difference['high'])}; {bound})"
    )
    predictor = block["predictor"]
    console.print_table(
        f"{column}: people outside the data, AUC",
        ("", "after the run", "before (prior)", "floor, f0 - f1"),
        [
            ("all", _number(predictor["auc"]), _number(predictor["prior_auc"]), _number(block["floor_auc"])),
            ("within task classes", *(_number(within[name]) for name in ("auc", "prior_auc", "floor_auc"))),
        ],
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
