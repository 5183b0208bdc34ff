"""The dealer's process: one session after another; it holds nothing and learns shapes only."""

from __future__ import annotations

from pathlib import Path

from parties.links import opened
from secure_fair.mpc.dealing.server import serve_session
from secure_fair.settings import NetworkSettings


def run_dealer(network: NetworkSettings, log_file: Path | None) -> int:
    """Serve one session of the two parties; returns the number of steps dealt.

    Raises what ended the session; both parties have been told by then.
    """

    def log(message: str) -> None:
        if log_file is not None:
            with log_file.open("a") as stream:
                stream.write(message + "\n")

    with opened(network) as links, links.acceptor() as acceptor:
        developer, auditor = links.accept(acceptor, "developer", "auditor")

        def progress(dealt: int, planned: int) -> None:
            links.where = f"{dealt} of {planned} steps dealt"

        return serve_session(developer, auditor, log, progress)
