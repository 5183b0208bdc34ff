"""`secure-fair report`: one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from secure_fair.cli import console

PATH = click.Path(path_type=Path)


@click.command(epilog="Example: secure-fair report comparison")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--out", type=PATH, help="File to write; by default DIR/report.html.")
@console.json_option
def report(folder: Path, out: Path | None, as_json: bool) -> None:
    """Write one HTML page about DIR: a folder that compare, simulate, train, audit or experiment has written.

    The page holds everything it shows, asks nothing of any network, and is light or dark as the reader's system is.
    """
    from secure_fair.report import page

    written = page.write(folder, out)
    if as_json:
        console.print_json({"report": written})
        return
    click.echo(f"wrote {written}")
