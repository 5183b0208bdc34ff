"""`secure-fair certs`: a private authority and party certificates for a trial."""

from __future__ import annotations

import json
from pathlib import Path

import click

PARTIES = ("developer", "auditor", "dealer")


@click.group()
def certs() -> None:
    """Certificates for a trial; a real deployment brings its own."""


@certs.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="PARTY=HOST",
    help="A name or IP address at which the others reach a party; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def init(directory: Path, hosts: tuple[str, ...], as_json: bool) -> None:
    """Make an authority and a certificate for each party in DIR.

    \b
    Example:
      secure-fair certs init certs --host auditor=auditor.example --host dealer=10.0.0.3

    Give each party DIR/ca.crt and its own .crt and .key, and nothing else; keep DIR/ca.key to yourself.
    """
    from secure_fair.transport.certs import fingerprint, make_authority, make_party

    names: dict[str, list[str]] = {party: [] for party in PARTIES}
    for entry in hosts:
        party, _, host = entry.partition("=")
        if party not in names or not host:
            raise click.BadParameter(
                f"{entry!r}: write PARTY=HOST, with PARTY one of {', '.join(PARTIES)}", param_hint="--host"
            )
        names[party].append(host)
    make_authority(directory)
    prints = {party: fingerprint(make_party(directory, party, names[party])) for party in PARTIES}
    if as_json:
        click.echo(json.dumps({"directory": str(directory), "fingerprints": prints}))
        return
    click.echo(f"Wrote ca.crt and ca.key, and a .crt and .key of each party, to {directory}.")
    click.echo("Keep ca.key to yourself. Into [network] of each party's settings file:\n")
    pairs = ", ".join(f'{party} = "{value}"' for party, value in prints.items())
    click.echo(f"fingerprints = {{ {pairs} }}")
