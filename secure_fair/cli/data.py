"""`secure-fair data`: draw faces, split a data set between the parties, find what is wrong with the result."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import click

from secure_fair.cli import console

_SHOWN = 100  # problems printed; --json has all


@click.group(epilog="Example: secure-fair data faces faces && secure-fair data check prepared")
def data() -> None:
    """Draw procedural faces, prepare a data set for two parties, check a prepared folder."""


def _size(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    width, _, height = value.partition("x")
    if not (width.isdecimal() and (height or width).isdecimal()):
        raise click.BadParameter("write pixels, as 96 or 178x218")
    return int(width), int(height or width)


def _names(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def _joins(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    joins = {}
    for value in values:
        name, separator, parts = value.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{value!r}: write NAME=COLUMN,COLUMN,...")
        joins[name] = tuple(part.strip() for part in parts.split(","))
    return joins


def _ages(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, ...]:
    if not all(age.strip().isdecimal() for age in value.split(",")):
        raise click.BadParameter("write rising ages separated by commas, as 20,40,60")
    return tuple(int(age) for age in value.split(","))


def _shares(_context: click.Context, _option: click.Parameter, value: str) -> tuple[float, float, float]:
    try:
        train, val, test = (float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter("write three fractions that add up to 1, as 0.7,0.1,0.2") from None
    return train, val, test


def _warn_of_few(cells: Mapping[str, int]) -> None:
    from secure_fair.fairness.verdict import few_records

    for text in few_records(cells):
        console.warn(text)


@data.command(epilog="Example: secure-fair data faces faces -n 8000 --correlation 0.93 --balanced-test")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("-n", "count", type=click.IntRange(10), default=8000, show_default=True, help="Number of images.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--layout", type=click.Choice(["celeba", "utkface"]), default="celeba", show_default=True)
@click.option("--task", help="What a model is to learn [default: Smiling; Young in the utkface layout].")
@click.option("--attribute", default="Male", show_default=True, help="What it is correlated with; or SkinTone.")
@click.option(
    "--correlation",
    type=click.FloatRange(0, 1),
    default=0.93,
    show_default=True,
    help="P(task = attribute) for a binary attribute and a task with as many yes as no; 0.5 is independence.",
)
@click.option("--balanced-test", is_flag=True, help="Correlate in the training split only; val and test: independent.")
@click.option(
    "--overlap",
    type=click.FloatRange(0),
    default=0.5,
    show_default=True,
    help="How much smiles and straight faces overlap: standard deviation about -1 and +1.",
)
@click.option(
    "--rate", type=click.FloatRange(0, 0.5, min_open=True), help="The task's share of yes [default: its own]."
)
@click.option("--size", callback=_size, default="96", show_default=True, help="Pixels; CelebA's own are 178x218.")
@click.option("--images-per-person", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--shares",
    callback=_shares,
    default="0.7,0.1,0.2",
    show_default=True,
    help="Of train, val and test, celeba layout.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes that draw [default: cores, at most 8].")
@console.json_option
def faces(
    out: Path,
    count: int,
    seed: int,
    layout: Literal["celeba", "utkface"],
    task: str | None,
    attribute: str,
    correlation: float,
    balanced_test: bool,
    overlap: float,
    rate: float | None,
    size: tuple[int, int],
    images_per_person: int,
    shares: tuple[float, float, float],
    workers: int | None,
    as_json: bool,
) -> None:
    """Draw procedural faces with a known bias into the new folder OUT, in a real data set's own layout."""
    from secure_fair.data.faces import FaceSettings, draw

    settings = FaceSettings(
        count=count,
        seed=seed,
        layout=layout,
        task=task or ("Smiling" if layout == "celeba" else "Young"),
        attribute=attribute,
        correlation=correlation,
        balanced_test=balanced_test,
        overlap=overlap,
        rate=rate,
        size=size,
        images_per_person=images_per_person,
        shares=shares,
        workers=workers or min(8, os.cpu_count() or 1),
    )
    with console.Reporter() as reporter:
        counts = draw(out, settings, reporter.stage("drawing faces"))
    cells = sorted({cell for split in counts.values() for cell in split})
    _warn_of_few({cell: counts["test"].get(cell, 0) for cell in cells} if counts.get("test") else {})
    if as_json:
        console.print_json({"out": out, "task": settings.task, "attribute": attribute, "counts": counts})
        return
    rows = [[split, *(str(found.get(cell, 0)) for cell in cells)] for split, found in counts.items()]
    console.print_table(f"{count} faces in {out}", ["split", *cells], rows)


@data.command(
    epilog="Example: secure-fair data prepare celeba faces --task Smiling --sensitive Male "
    "--join SkinTone=Pale_Skin,Medium_Skin,Dark_Skin --sensitive SkinTone --out prepared"
)
@click.argument("dataset", type=click.Choice(["celeba", "utkface"]))
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--task", required=True, help="Column to learn; the developer gets it.")
@click.option(
    "--sensitive", multiple=True, required=True, callback=_names, help="Column for the auditor; repeat, or use commas."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder.")
@click.option(
    "--join", "joins", multiple=True, callback=_joins, help="NAME=COLUMN,COLUMN,...: exclusive columns as one."
)
@click.option(
    "--person", is_flag=True, help="Give the auditor the identity column (one budget a person, not an image)."
)
@click.option(
    "--age-bins", callback=_ages, default="20,40,60", show_default=True, help="UTK-Face: first ages of bins 2, 3, ..."
)
@click.option(
    "--auditor-images",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    metavar="F",
    help="Fraction of train and val that the auditor gets with images, and the developer does not get.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of ids, and of splits where there are none."
)
@console.json_option
def prepare(
    dataset: str,
    root: Path,
    task: str,
    sensitive: tuple[str, ...],
    out: Path,
    joins: dict[str, tuple[str, ...]],
    person: bool,
    age_bins: tuple[int, ...],
    auditor_images: float,
    seed: int,
    as_json: bool,
) -> None:
    """Split the data set at ROOT into OUT/developer (images, labels) and OUT/auditor (attributes)."""
    from secure_fair.data import celeba, utkface
    from secure_fair.data.prepare import PrepareSettings
    from secure_fair.data.prepare import prepare as split

    settings = PrepareSettings(task, sensitive, joins, person, auditor_images, seed)
    source = celeba.read(root) if dataset == "celeba" else utkface.read(root, age_bins)
    for line in source.skipped[:_SHOWN]:
        console.warn(f"left out {line}")
    with console.Reporter() as reporter:
        summary = split(source, out, settings, reporter.stage("copying images"))
    _warn_of_few(summary["test"])
    if as_json:
        console.print_json(summary)
        return
    records = ", ".join(f"{count} {name}" for name, count in summary["records"].items())
    click.echo(f"{out / 'developer'}: {records} records with labels of {task}")
    click.echo(f"{out / 'auditor'}: {', '.join(sensitive)} of the same records")
    if summary["auditor_images"]:
        click.echo(f"{out / 'auditor' / 'images'}: {summary['auditor_images']} images of its own")
    if source.skipped:
        click.echo(f"{len(source.skipped)} images left out: attributes unreadable")


@data.command(epilog="Example: secure-fair data check prepared")
@click.argument("folder", type=click.Path(path_type=Path))
@console.json_option
@click.pass_context
def check(context: click.Context, folder: Path, as_json: bool) -> None:
    """Say everything that is wrong with a prepared FOLDER (both parties' or one party's), and where."""
    from secure_fair.data.check import check as find

    with console.Reporter() as reporter:
        found = find(folder, reporter.stage("checking images"))
    if as_json:
        problems = [dataclasses.asdict(problem) for problem in found.problems]
        console.print_json({**dataclasses.asdict(found), "problems": problems, "ok": not problems})
    else:
        for problem in found.problems[:_SHOWN]:
            click.echo(str(problem))
        hidden = len(found.problems) - _SHOWN
        if hidden > 0:
            click.echo(f"... and {hidden} more; --json lists all")
        count = f"{len(found.problems)} problems" if found.problems else "no problem"
        named = ", ".join(found.attributes) or "none"
        click.echo(f"{folder}: {count} in {found.records} records, {found.images} images, attributes: {named}")
    if found.problems:
        context.exit(1)
