"""A party that listens: serves one run after another, turns everybody else away meanwhile, and tells how it is."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import resource
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from parties.journal import Journal
from parties.links import Links, opened
from secure_fair.errors import (
    InterruptedRunError,
    LedgerBusyError,
    LedgerError,
    PeerLostError,
    ProtocolError,
    RefusedError,
    SecureFairError,
    TransportError,
)
from secure_fair.files import write_text
from secure_fair.sections import NetworkSettings
from secure_fair.transport.accept import Acceptor
from secure_fair.transport.frames import Connection
from secure_fair.transport.tls import Pins, fingerprint_at

HEALTH = "health.json"  # in a party's folder; a service that lives writes it anew every HEALTH_SECONDS
HEALTH_SECONDS = 10.0
_GLANCE_SECONDS = 0.5
JOURNALLED = 6  # every so many of them are written into the log too
_MEBIBYTE = 2**20 if sys.platform == "darwin" else 2**10  # in units of getrusage

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Guest:
    """A peer that has come for a run."""

    connection: Connection
    fingerprint: str

    @staticmethod
    def over(sock: ssl.SSLSocket, peer: str, links: Links) -> Guest:
        """The peer over a socket that has been accepted."""
        # Asked before anything is read: of a connection that has broken OpenSSL no longer names the certificate.
        fingerprint = fingerprint_at(sock)
        return Guest(links.take(sock, peer), fingerprint)


Session = Callable[[Links, dict[str, Guest], Journal], None]


def serve(
    party: str, network: NetworkSettings, out: Path, guests: tuple[str, ...], session: Session, *, forever: bool
) -> None:
    """Wait for all of `guests`, run the session with them, and, with `forever`, begin again.

    forever: a run that fails is logged and the next one is served. SIGTERM ends a run in order, and the service with
    it, as an InterruptedRunError; so does a ledger that cannot be trusted, while one that is locked or has no disk
    left only fails the run, to which it releases nothing. Otherwise what ends the run is raised.
    """
    with (
        Journal(out, party) as journal,
        opened(network) as door,
        door.acceptor() as acceptor,
        Health(party, acceptor.address, out if forever else None, journal) as health,
    ):
        pins: dict[str, Pins] = {guest: door.pins(guest) for guest in guests}
        journal("listening", address=acceptor.address)
        while True:
            health.now("waiting")
            first, sock = acceptor.accept(pins, math.inf if forever else network.start_timeout_seconds)
            health.now("serving")
            began = time.monotonic()
            try:
                # A failure interrupts the main thread until the links are closed: turning away must end after that.
                with contextlib.ExitStack() as afterwards, opened(network) as links:
                    come = {first: Guest.over(sock, first, links)}
                    deadline = began + network.start_timeout_seconds
                    while missing := {guest: each for guest, each in pins.items() if guest not in come}:
                        _await(links, acceptor, missing, come, pins, deadline)
                    journal("connected", **{guest: each.fingerprint for guest, each in come.items()})
                    with links.undisturbed():
                        afterwards.enter_context(acceptor.turning_away(pins))
                    session(links, come, journal)
            except (SecureFairError, OSError) as error:
                health.failed += 1
                journal("run failed", reason=_public(error), seconds=round(time.monotonic() - began, 3))
                distrusted = isinstance(error, LedgerError) and not isinstance(error, LedgerBusyError)
                if not forever or distrusted or isinstance(error, InterruptedRunError):
                    raise
                _log.error("the run failed: %s", error)
            else:
                health.served += 1
                journal("run ended", seconds=round(time.monotonic() - began, 3))
                if not forever:
                    return


def _await(
    links: Links,
    acceptor: Acceptor,
    missing: dict[str, Pins],
    come: dict[str, Guest],
    pins: dict[str, Pins],
    deadline: float,
) -> None:
    """Wait a moment for one of `missing`; whoever has come must still be there, or the next one would wait with it."""
    with links.undisturbed():
        try:
            guest, sock = acceptor.accept(missing, _GLANCE_SECONDS, busy=pins)
            come[guest] = Guest.over(sock, guest, links)
        except PeerLostError:
            if time.monotonic() >= deadline:
                names = " and ".join(missing)
                raise PeerLostError(
                    f"{names} did not come to {acceptor.address} in time; start it, or check the address it has for us"
                ) from None
    for each in come.values():
        each.connection.check()


def _public(error: Exception) -> str:
    """The words of errors that are for the peers too; of others the type only, since a text might name a value."""
    public = isinstance(error, (TransportError, ProtocolError, RefusedError, InterruptedRunError))
    return str(error) if public else type(error).__name__


class Health:
    """What a monitor wants to know: a small file that is written anew all the time, and now and then a line in the log.

    folder: None for a party that serves one run, which has an exit status instead.
    """

    def __init__(self, party: str, address: str, folder: Path | None, journal: Journal) -> None:
        self.state, self.served, self.failed = "starting", 0, 0
        self._writing = threading.Lock()
        self._party, self._address, self._folder, self._journal = party, address, folder, journal
        self._began = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="health", daemon=True)

    def __enter__(self) -> Self:
        if self._folder is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._folder is not None:
            self._end.set()
            self._thread.join()
            self.now("stopped")

    def now(self, state: str) -> None:
        """What the party does from now on."""
        self.state = state
        self._write()

    def facts(self) -> dict[str, str | int | float]:
        """Seconds since the start, descriptors open now, most memory ever resident in MiB."""
        return {
            "state": self.state,
            "address": self._address,
            "served": self.served,
            "failed": self.failed,
            "seconds": round(time.monotonic() - self._began),
            "descriptors": len(os.listdir("/dev/fd")),  # noqa: PTH208 (names are enough)
            "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MEBIBYTE,
        }

    def _tell(self) -> None:
        rounds = 0
        while True:
            self._write()
            if rounds % JOURNALLED == 0:
                self._journal("health", **self.facts())
            rounds += 1
            if self._end.wait(HEALTH_SECONDS):
                return

    def _write(self) -> None:
        if self._folder is None:
            return
        time_now = datetime.now(UTC).isoformat(timespec="seconds")
        facts = {"version": 1, "time": time_now, "party": self._party, **self.facts()}
        with self._writing:
            write_text(self._folder / HEALTH, json.dumps(facts) + "\n")
