"""The dealer's process: one session after another; it holds nothing and learns shapes only."""

from __future__ import annotations

from pathlib import Path

from parties.journal import Journal
from parties.links import Links
from parties.service import Guest, serve
from secure_fair.mpc.dealing.server import serve_session
from secure_fair.sections import NetworkSettings


def run_dealer(network: NetworkSettings, out: Path, *, forever: bool) -> None:
    """Serve one session of the two parties, or one after another. Raises what ended it; both have been told by then."""

    def session(links: Links, guests: dict[str, Guest], journal: Journal) -> None:
        def progress(dealt: int, planned: int) -> None:
            links.where = f"{dealt} of {planned} steps dealt"

        serve_session(guests["developer"].connection, guests["auditor"].connection, journal, progress)

    serve("dealer", network, out, ("developer", "auditor"), session, forever=forever)
