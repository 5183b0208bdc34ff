"""Developer, auditor and dealer as processes that start from nothing and speak TLS over loopback: what is measured.

The parties' own commands read data and policies first; a benchmark wants the protocol alone, on the same transport,
with the same dealer.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from secure_fair.errors import RunError
from secure_fair.mpc.dealing.correlations import Role
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.dealing.server import serve_session
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.engine.party import Party
from secure_fair.transport import certs, tls
from secure_fair.transport.accept import Acceptor
from secure_fair.transport.frames import Connection

ROLES: tuple[Role, ...] = ("developer", "auditor")
START_SECONDS = 120.0
RUN_SECONDS = 600.0
Job = Callable[[Party], Any]  # a function of a module (or a partial of one): it travels to another process
Route = Callable[[str], str]  # a party's address -> where to connect to reach it


@dataclass(frozen=True)
class Outcome:
    """What a party's job returned, the seconds it took, and memory: at its start (imports) and at the peak, bytes."""

    result: Any
    seconds: float
    memory_at_start: int
    memory_peak: int
    offline_bytes: int


def run(plan: Plan, jobs: Mapping[Role, Job], route: Route = str, seconds: float = RUN_SECONDS) -> dict[Role, Outcome]:
    """Run both jobs to their end, with a dealer that serves `plan`; no process outlives the call. Raises RunError.

    `route` leads the developer to the auditor, so that a relay can stand between them.
    """
    context = multiprocessing.get_context("spawn")
    listeners = {role: tls.listen("127.0.0.1:0") for role in ("auditor", "dealer")}
    addresses = {role: tls.address_of(listener) for role, listener in listeners.items()}
    processes: list[BaseProcess] = []
    pipes: dict[Role, Pipe] = {}
    with tempfile.TemporaryDirectory(prefix="secure-fair-bench-") as folder:
        ends = _Ends.make(Path(folder))
        try:
            dealer = context.Process(target=_deal, args=(ends, listeners["dealer"]))
            processes.append(dealer)
            for role in ROLES:
                pipes[role], theirs = context.Pipe(duplex=False)
                towards = addresses if role == "auditor" else {**addresses, "auditor": route(addresses["auditor"])}
                arguments = (theirs, role, ends, listeners.get(role), towards, plan, jobs[role])
                processes.append(context.Process(target=_serve, args=arguments))
            for process in processes:
                process.start()
            return {role: _outcome(role, pipe, seconds) for role, pipe in pipes.items()}
        finally:
            for process in processes:
                if process.pid is not None:
                    process.kill()
                    process.join()
            for listener in listeners.values():
                listener.close()


@dataclass(frozen=True)
class _Ends:
    identities: dict[str, tls.Identity]
    fingerprints: dict[str, str]

    @staticmethod
    def make(folder: Path) -> _Ends:
        authority = certs.make_authority(folder)
        files = {role: certs.make_party(folder, role, ["127.0.0.1"]) for role in (*ROLES, "dealer")}
        identities = {role: tls.Identity(file, file.with_suffix(".key"), authority) for role, file in files.items()}
        return _Ends(identities, {role: certs.fingerprint(file) for role, file in files.items()})

    def accept(self, role: str, listener: socket.socket, peers: Sequence[str]) -> list[Connection]:
        missing, accepted = {peer: self.fingerprints[peer] for peer in peers}, {}
        with Acceptor(listener, tls.server_context(self.identities[role])) as acceptor:
            while missing:
                peer, sock = acceptor.accept(missing, START_SECONDS)
                del missing[peer]
                accepted[peer] = Connection(sock, peer)
        return [accepted[peer] for peer in peers]

    def connect(self, role: str, peer: str, address: str) -> Connection:
        context = tls.client_context(self.identities[role])
        return Connection(tls.connect(address, context, peer, self.fingerprints[peer], START_SECONDS), peer)


def _deal(ends: _Ends, listener: socket.socket) -> None:
    import torch

    torch.set_num_threads(1)
    developer, auditor = ends.accept("dealer", listener, ROLES)
    with developer, auditor:
        serve_session(developer, auditor, lambda *_, **__: None)


def _serve(pipe: Pipe, role: Role, *arguments: Any) -> None:
    try:
        pipe.send(_party(role, *arguments))
    except BaseException:
        pipe.send(traceback.format_exc())
        raise


def _party(
    role: Role, ends: _Ends, listener: socket.socket | None, addresses: dict[str, str], plan: Plan, job: Job
) -> Outcome:
    import torch

    torch.set_num_threads(1)
    if listener is not None:
        (peer,) = ends.accept(role, listener, ["developer"])
    else:
        peer = ends.connect(role, "auditor", addresses["auditor"])
    with peer, ends.connect(role, "dealer", addresses["dealer"]) as dealer:
        party = Party(role, peer, CorrelationSource(role, dealer, plan))
        at_start, began = memory_now(), time.perf_counter()
        result = job(party)
        seconds = time.perf_counter() - began
        party.source.close()
        return Outcome(result, seconds, at_start, memory_peak(), party.source.offline_bytes)


def memory_now() -> int:
    """Resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_peak() -> int:
    """The most resident bytes that this process has had (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _outcome(role: str, pipe: Pipe, seconds: float) -> Outcome:
    if not pipe.poll(seconds):
        raise RunError(f"the {role} of a benchmark neither ended nor failed within {seconds:g} s")
    try:
        outcome = pipe.recv()
    except EOFError:
        raise RunError(f"the {role} of a benchmark ended without a result; see above") from None
    if isinstance(outcome, str):
        raise RunError(f"the {role} of a benchmark failed:\n{outcome}")
    assert isinstance(outcome, Outcome)  # noqa: S101
    return outcome
