"""Developer, auditor and dealer as processes that start from nothing: for what keeps state in a process (CrypTen)."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import SpawnProcess
from typing import Any
from unittest import mock

from secure_fair.mpc.dealing import server
from secure_fair.mpc.dealing.correlations import Role
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.dealing.server import serve_session
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.transport import tls
from secure_fair.transport.accept import Acceptor
from secure_fair.transport.frames import Connection
from tests.mpc.three_threads import Network

START_SECONDS = 120.0  # three processes import torch and CrypTen, on a busy machine
Body = Callable[[Any], Any]


def seeds(role: str) -> Callable[[], bytes]:
    """Takes the place of `fresh_seed` in a process: the same in every run.

    CrypTen truncates each share by itself, which is wrong by 2^48 where the shares wrap: with a probability of about
    |x| / 2^63 each time, and so in some of 100,000 runs of a test that truncates thousands of numbers near 2^34.
    """
    upcoming = itertools.count()
    return lambda: hashlib.sha256(f"{role} {next(upcoming)}".encode()).digest()


def run(network: Network, plan: Plan, body: Body) -> dict[str, Any]:
    """What `body(party)` returned at the developer and at the auditor, and the dealer's `sys.modules`.

    `body` is a function of a module. A party that fails fails the test with its traceback.
    """
    context = multiprocessing.get_context("spawn")
    listeners = {role: tls.listen("127.0.0.1:0") for role in ("auditor", "dealer")}
    addresses = {role: tls.address_of(listener) for role, listener in listeners.items()}
    pipes: dict[str, Pipe] = {}
    processes: list[SpawnProcess] = []
    try:
        for role in ("dealer", "auditor", "developer"):
            pipes[role], theirs = context.Pipe(duplex=False)
            arguments = (role, network.identities[role], network.fingerprints, listeners.get(role), addresses)
            processes.append(
                context.Process(target=_main, args=(theirs, *arguments, plan, None if role == "dealer" else body))
            )
            processes[-1].start()
            theirs.close()
        results = {role: _result(role, pipes[role]) for role in ("developer", "auditor", "dealer")}
        for process in processes:
            process.join(START_SECONDS)
    finally:
        for process in processes:
            process.kill()
            process.join()
            process.close()
        for listener in listeners.values():
            listener.close()
        for pipe in pipes.values():
            pipe.close()
    return results


def _result(role: str, pipe: Pipe) -> Any:
    assert pipe.poll(2 * START_SECONDS), f"the {role} neither ended nor failed"
    ended, result = pipe.recv()
    assert ended, f"the {role} failed:\n{result}"
    return result


def _main(pipe: Pipe, *arguments: Any) -> None:
    try:
        pipe.send((True, _party(*arguments)))
    except BaseException:
        pipe.send((False, traceback.format_exc()))
        raise


def _party(
    role: Role,
    identity: tls.Identity,
    fingerprints: dict[str, str],
    listener: socket.socket | None,
    addresses: dict[str, str],
    plan: Plan,
    body: Body | None,
) -> Any:
    def accept(*peers: str) -> list[Connection]:
        assert listener is not None
        missing, accepted = {peer: fingerprints[peer] for peer in peers}, {}
        with Acceptor(listener, tls.server_context(identity)) as acceptor:
            while missing:
                peer, sock = acceptor.accept(missing, START_SECONDS)
                del missing[peer]
                accepted[peer] = Connection(sock, peer)
        return [accepted[peer] for peer in peers]

    def connect(peer: str) -> Connection:
        context = tls.client_context(identity)
        return Connection(tls.connect(addresses[peer], context, peer, fingerprints[peer], START_SECONDS), peer)

    if body is None:
        developer, auditor = accept("developer", "auditor")
        with developer, auditor, mock.patch.object(server, "fresh_seed", seeds(role)):
            serve_session(developer, auditor, lambda *_, **__: None)
        return sorted(sys.modules)

    import torch

    from secure_fair.mpc.engine.party import Party

    torch.set_num_threads(1)
    (peer,) = accept("developer") if role == "auditor" else (connect("auditor"),)
    with connect("dealer") as dealer, peer:
        party = Party(role, peer, CorrelationSource(role, dealer, plan))
        result = body(party)
        party.source.close()
        return result
