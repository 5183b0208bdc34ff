"""`secure-fair bench`: benchmarks, each of which writes its results with the environment that gave them."""

from __future__ import annotations

from pathlib import Path

import click

from secure_fair.cli import bench_speed, console
from secure_fair.cli.bench_tools import PATH, benchmark, several
from secure_fair.errors import InterruptedRunError

EPSILON = click.FloatRange(0, min_open=True)
RANK = click.IntRange(0)


@click.group(epilog="Example: secure-fair bench frontier --out frontier")
def bench() -> None:
    """Measure; every result names its command, commit, versions and hardware."""


@bench.command(epilog="Example: secure-fair bench frontier --epsilons 0.5,2,inf --ranks 8,0 --seeds 3 --out frontier")
@click.option("--out", type=PATH, default=Path("frontier"), show_default=True, help="Folder for the results.")
@click.option("--work", type=PATH, help="Folder for data and finished trainings; default OUT/work.")
@click.option(
    "--epsilons",
    callback=several(EPSILON),
    default="0.1,0.25,0.5,1,2,4,8,inf",
    show_default=True,
    help="inf: no noise.",
)
@click.option(
    "--ranks",
    callback=several(RANK),
    default="4,8,16,32,0",
    show_default=True,
    help="Values of privacy.rank.",
)
@click.option("--rank-epsilon", type=EPSILON, default=2.0, show_default=True, help="For --ranks.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Trainings of each point.")
@click.option("--images", type=click.IntRange(min=100), default=6000, show_default=True, help="Faces drawn per seed.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting.")
@console.json_option
def frontier(
    out: Path,
    work: Path | None,
    epsilons: tuple[float, ...],
    ranks: tuple[int, ...],
    rank_epsilon: float,
    seeds: int,
    images: int,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Bias against utility against epsilon, and against what the released predictor gives away.

    Procedural faces and the demo's settings. ORTH with the soft attributes of `moment` and `randomized-response`;
    ERM, and ORTH and ADV with exact attributes, as references. Writes OUT/frontier.csv, .json, .png and .svg; the same
    command goes on where it was stopped. The whole grid takes about half an hour on one core.
    """
    results = benchmark("frontier.results")
    grid = benchmark("frontier.grid").Grid(epsilons, ranks, rank_epsilon, seeds, images)
    try:
        with console.Reporter() as report:
            result = results.make(grid, overrides, work or out / "work", out, report)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"{out}: interrupted; the same command goes on with the next training") from None
    if as_json:
        console.print_json(result)
        return
    console.print_table(f"held-out people, {seeds} seeds", results.COLUMNS, results.lines(result))
    click.echo(f"wrote {out / 'frontier.csv'}, frontier.json, frontier.png and frontier.svg")


@bench.command(epilog="Example: secure-fair bench audit --rows 10000,1000000 --out audit")
@click.option("--out", type=PATH, default=Path("audit"), show_default=True, help="Folder for the results.")
@click.option(
    "--rows", "sizes", callback=several(click.IntRange(min=100)), default="10000,100000,1000000", show_default=True
)
@click.option("--groups", type=click.IntRange(2, 16), default=4, show_default=True, help="K.")
@click.option("--modes", callback=several(click.Choice(["noised", "exact"])), default="noised,exact", show_default=True)
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True, help="Of each audit.")
@console.json_option
def audit(
    out: Path, sizes: tuple[int, ...], groups: int, modes: tuple[str, ...], repetitions: int, as_json: bool
) -> None:
    """Audits of a binary task: seconds, bytes and memory, by three processes as a user runs them.

    Drawn tables as Parquet files. Writes OUT/audit.json; OUT/work keeps tables, ledgers and reports;
    the same command goes on where it was stopped.
    """
    results = benchmark("audit.results")
    result = results.make(sizes, groups, modes, repetitions, out, console.say)
    if as_json:
        console.print_json(result)
        return
    console.print_table("audits", results.COLUMNS, results.lines(result))
    shown = [
        (row["text"], f"{row['limit']:g}", f"{row['measured']:g}", "met" if row["met"] else "MISSED")
        for row in result["claims"]
    ]
    console.print_table("what they must show", ("claim", "at most", "measured", ""), shown)
    click.echo(f"wrote {out / 'audit.json'}")


for command in (bench_speed.primitives, bench_speed.network, bench_speed.scaling, bench_speed.overhead):
    bench.add_command(command)
