"""`secure-fair certs`: a private authority and party certificates for a trial."""

from __future__ import annotations

from pathlib import Path

import click

from secure_fair.cli import console

PARTIES = ("developer", "auditor", "dealer")


@click.group(epilog="Example: secure-fair certs init certs --host auditor=auditor.example")
def certs() -> None:
    """Certificates for a trial; a real deployment brings its own."""


@certs.command(epilog="Example: secure-fair certs init certs --host auditor=auditor.example --host dealer=10.0.0.3")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="PARTY=HOST",
    help="A name or IP address at which the others reach a party; may be repeated.",
)
@console.json_option
def init(directory: Path, hosts: tuple[str, ...], as_json: bool) -> None:
    """Make an authority and a certificate for each party in DIR.

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
        console.print_json({"directory": directory, "fingerprints": prints})
        return
    click.echo(f"Wrote ca.crt and ca.key, and a .crt and .key of each party, to {directory}.")
    click.echo("Keep ca.key to yourself. Into [network] of each party's settings file:\n")
    pairs = ", ".join(f'{party} = "{value}"' for party, value in prints.items())
    click.echo(f"fingerprints = {{ {pairs} }}")
