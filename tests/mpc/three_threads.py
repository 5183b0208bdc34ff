"""Developer, auditor and dealer as threads of one process over real TLS sockets: for protocol tests.

The processes of a deployment are tested in tests/parties; the protocols themselves keep no global state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from secure_fair.mpc.dealing.correlations import Role
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.dealing.server import serve_session
from secure_fair.mpc.dealing.source import PREFETCH_STEPS, CorrelationSource
from secure_fair.mpc.engine.party import Party
from secure_fair.transport import certs, tls
from secure_fair.transport.accept import Acceptor
from secure_fair.transport.frames import Connection

TIMEOUT = 20.0


@dataclass
class Outcome:
    """What each side returned, and what was opened."""

    developer: Any
    auditor: Any
    disclosed: list[tuple[str, torch.Tensor]] = field(default_factory=list)


class Network:
    """A trial authority and connected pairs."""

    def __init__(self, folder: Path) -> None:
        ca = certs.make_authority(folder)
        self.identities = {}
        self.fingerprints = {}
        for name in ("developer", "auditor", "dealer"):
            certificate = certs.make_party(folder, name, ["127.0.0.1"])
            self.identities[name] = tls.Identity(certificate, certificate.with_suffix(".key"), ca)
            self.fingerprints[name] = certs.fingerprint(certificate)

    def pair(self, client: str, server: str) -> tuple[Connection, Connection]:
        """(client's end, server's end)."""
        context = tls.server_context(self.identities[server])
        with Acceptor(tls.listen("127.0.0.1:0"), context) as acceptor, ThreadPoolExecutor(1) as pool:
            accepted = pool.submit(acceptor.accept, {client: self.fingerprints[client]}, TIMEOUT)
            mine = tls.connect(
                acceptor.address,
                tls.client_context(self.identities[client]),
                server,
                self.fingerprints[server],
                TIMEOUT,
            )
            theirs = accepted.result(TIMEOUT)[1]
        return (
            Connection(mine, server, timeout_seconds=TIMEOUT),
            Connection(theirs, client, timeout_seconds=TIMEOUT),
        )

    def run(
        self,
        plan: Plan,
        developer: Callable[[Party], Any],
        auditor: Callable[[Party], Any],
        auditor_plan: Plan | None = None,
        prefetch: int = PREFETCH_STEPS,
    ) -> Outcome:
        """Run both sides to their end; the first error of any side is raised."""
        dev_aud, aud_dev = self.pair("developer", "auditor")
        dev_deal, deal_dev = self.pair("developer", "dealer")
        aud_deal, deal_aud = self.pair("auditor", "dealer")
        ends = (dev_aud, aud_dev, dev_deal, deal_dev, aud_deal, deal_aud)
        outcome = Outcome(None, None)
        guard = _Guard(ends)

        def side(role: Role, peer: Connection, dealer: Connection, plan: Plan, body: Callable[[Party], Any]) -> Any:
            def recorder(name: str, value: torch.Tensor, _unit: float) -> None:
                outcome.disclosed.append((name, value))

            party = Party(role, peer, CorrelationSource(role, dealer, plan, prefetch), recorder)
            result = body(party)
            party.source.close()
            return result

        plans = (plan, plan if auditor_plan is None else auditor_plan)
        with ThreadPoolExecutor(3) as pool:
            futures = [
                pool.submit(guard.run, lambda: serve_session(deal_dev, deal_aud, lambda *_, **__: None)),
                pool.submit(guard.run, lambda: side("developer", dev_aud, dev_deal, plans[0], developer)),
                pool.submit(guard.run, lambda: side("auditor", aud_dev, aud_deal, plans[1], auditor)),
            ]
            if wait(futures, 3 * TIMEOUT).not_done:
                guard.stop(TimeoutError("a side neither ended nor failed"))
        guard.close()
        outcome.developer, outcome.auditor = futures[1].result(), futures[2].result()
        return outcome


class _Guard:
    """Ends all sides when one fails."""

    def __init__(self, ends: Sequence[Connection]) -> None:
        self._ends = ends
        self._errors: list[BaseException] = []
        self._telling: list[threading.Thread] = []

    def run(self, body: Callable[[], Any]) -> Any:
        try:
            return body()
        except BaseException as error:
            self.stop(error)
            raise

    def stop(self, error: BaseException) -> None:
        self._errors.append(error)
        for end in self._ends:
            self._telling.append(threading.Thread(target=end.fail, args=("test ended",), daemon=True))
            self._telling[-1].start()

    def close(self) -> None:
        """Close all channels and raise the first error."""
        for thread in self._telling:
            thread.join(TIMEOUT)
        for end in self._ends:
            end.close()
        if self._errors:
            raise self._errors[0]


def tap(party: Party) -> list[tuple[int, bytes]]:
    """Kind and body of every frame that this party receives from the other from now on."""
    frames: list[tuple[int, bytes]] = []
    receive = party.peer.receive

    def recording(
        kind: int, size: int | None = None, max_size: int | None = None, *, within: float | None = None
    ) -> bytearray:
        body = receive(kind, size, max_size, within=within)
        frames.append((kind, bytes(body)))
        return body

    party.peer.receive = recording  # type: ignore[method-assign]
    return frames


@dataclass(frozen=True)
class Traffic:
    """One side's counters over one step."""

    rounds: int
    messages: int
    bytes: int


class Meter:
    """`lap` gives what this side sent, and its rounds, since the last."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last = self._now()

    def _now(self) -> tuple[int, int, int]:
        return self._connection.rounds, self._connection.messages_sent, self._connection.bytes_sent

    def lap(self) -> Traffic:
        before, self._last = self._last, self._now()
        return Traffic(*(now - then for now, then in zip(self._last, before, strict=True)))
