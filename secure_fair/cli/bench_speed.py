"""`secure-fair bench` {primitives,network,scaling,overhead}: what the secure computation costs."""

from __future__ import annotations

from pathlib import Path

import click

from secure_fair.cli import console
from secure_fair.cli.bench_tools import PATH, benchmark, several, show

SYSTEMS = ("secure-fair", "crypten-tfp", "crypten-ttp", "spu", "mpyc")


@click.command(epilog="Example: secure-fair bench primitives --out primitives")
@click.option("--out", type=PATH, default=Path("primitives"), show_default=True, help="Folder for the results.")
@click.option("--work", type=PATH, help="Folder for the other systems' environments and inputs; default OUT/work.")
@click.option(
    "--systems",
    callback=several(click.Choice(SYSTEMS)),
    default=",".join(SYSTEMS),
    show_default=True,
    help="Which to run; spu and mpyc are installed into WORK from the package index.",
)
@click.option("--repetitions", type=click.IntRange(min=1), default=50, show_default=True, help="Of each operation.")
@console.json_option
def primitives(out: Path, work: Path | None, systems: tuple[str, ...], repetitions: int, as_json: bool) -> None:
    """Steps of ORTH and ADV, a product and the sigmoid: ours against CrypTen, SPU and MPyC.

    Same inputs for all, one system after the other, on this machine. Writes OUT/primitives.json.
    """
    results = benchmark("primitives.results")
    result = results.make(systems, repetitions, work or out / "work", out, console.say)
    show("single operations", results, result, as_json, out / "primitives.json")


@click.command(epilog="Example: secure-fair bench network --out network")
@click.option("--out", type=PATH, default=Path("network"), show_default=True, help="Folder for the results.")
@click.option("--repetitions", type=click.IntRange(min=1), default=10, show_default=True, help="Of each step.")
@click.option(
    "--forward",
    type=click.FloatRange(0, min_open=True),
    default=0.25,
    show_default=True,
    help="Seconds of the pause that stands for the forward pass.",
)
@console.json_option
def network(out: Path, repetitions: int, forward: float, as_json: bool) -> None:
    """Steps of ORTH and ADV, and a moment, over loopback and three slower links.

    A relay of our own delays and paces the bytes, so no privilege and no kernel module is needed. Beside what was
    measured stands the model: rounds * RTT + bytes / bandwidth + what the step takes over loopback. Writes
    OUT/network.json.
    """
    study = benchmark("network.study")
    result = study.make(repetitions, forward, out, console.say)
    show("time waited for a step", study, result, as_json, out / "network.json")


@click.command(epilog="Example: secure-fair bench scaling --records 10000,160000 --out scaling")
@click.option("--out", type=PATH, default=Path("scaling"), show_default=True, help="Folder for the results.")
@click.option("--repetitions", type=click.IntRange(min=1), default=10, show_default=True, help="Of each step.")
@click.option(
    "--records",
    callback=several(click.IntRange(1)),
    default="10000,40000,160000",
    show_default=True,
    help="Of each moment; 160000 take about 2 GB in the developer's and 3 GB in all processes.",
)
@console.json_option
def scaling(out: Path, repetitions: int, records: tuple[int, ...], as_json: bool) -> None:
    """How a step grows with records, width and groups, and a moment with the number of records; memory at its peak.

    Writes OUT/scaling.json.
    """
    study = benchmark("scaling.study")
    result = study.make(repetitions, records, out, console.say)
    show("cost by size", study, result, as_json, out / "scaling.json")


@click.command(epilog="Example: secure-fair bench overhead --backbones vit_tiny_patch16_224 --out overhead")
@click.option("--out", type=PATH, default=Path("overhead"), show_default=True, help="Folder for the results.")
@click.option(
    "--backbones",
    default="vit_tiny_patch16_224,vit_base_patch16_224",
    show_default=True,
    help="Of timm, with random weights.",
)
@click.option("--batch", callback=several(click.IntRange(2)), default="32", show_default=True, help="Images a step.")
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True, help="Steps of each arm.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or auto.")
@console.json_option
def overhead(out: Path, backbones: str, batch: tuple[int, ...], repetitions: int, device: str, as_json: bool) -> None:
    """Seconds of a training step, plaintext against secure, for every method and release.

    Steps of all arms take turns. A step of ViT-Base takes about 10 s on two cores. Writes OUT/overhead.json.
    """
    study = benchmark("overhead.study")
    tasks = [study.Task(name.strip(), size, repetitions, device) for name in backbones.split(",") for size in batch]
    result = study.make(tasks, out, console.say)
    show("training steps", study, result, as_json, out / "overhead.json")
