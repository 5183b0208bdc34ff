"""Certificates, connected pairs and raw peers for the transport's tests: real sockets, TLS throughout."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from secure_fair.transport import certs, tls
from secure_fair.transport.accept import Acceptor
from secure_fair.transport.frames import Connection

Result = TypeVar("Result")
PATIENCE = 20.0  # seconds; a test that waits longer is wrong


class Pki:
    """An authority with the parties `developer` and `auditor`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        certs.make_authority(directory)
        self.developer = self.party("developer")
        self.auditor = self.party("auditor")

    def party(self, name: str, **options: Any) -> tls.Identity:
        path = certs.make_party(self.directory, name, **options)
        return tls.Identity(path, path.with_suffix(".key"), self.directory / "ca.crt")

    @property
    def pin_developer(self) -> dict[str, str]:
        return {"developer": certs.fingerprint(self.developer.certificate)}

    @property
    def pin_auditor(self) -> str:
        return certs.fingerprint(self.auditor.certificate)

    def acceptor(self, address: str | int = "127.0.0.1:0") -> Acceptor:
        return Acceptor(tls.listen(address), tls.server_context(self.auditor))

    def connect(self, address: str, identity: tls.Identity | None = None, timeout: float = PATIENCE) -> ssl.SSLSocket:
        context = tls.client_context(identity or self.developer)
        return tls.connect(address, context, "auditor", self.pin_auditor, timeout)

    def sockets(self) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
        """The developer's and the auditor's end of one accepted connection."""
        with self.acceptor() as acceptor:
            accepted = background(acceptor.accept, self.pin_developer, PATIENCE)
            mine = self.connect(acceptor.address)
            return mine, accepted.result(PATIENCE)[1]

    @contextmanager
    def pair(self, **options: Any) -> Iterator[tuple[Connection, Connection]]:
        """The developer's connection to the auditor, and the auditor's to the developer."""
        mine, theirs = self.sockets()
        with Connection(mine, "auditor", **options) as developer, Connection(theirs, "developer", **options) as auditor:
            yield developer, auditor

    @contextmanager
    def raw_peer(self, **options: Any) -> Iterator[tuple[ssl.SSLSocket, Connection]]:
        """A developer that says what the test wants, and the auditor's connection to it."""
        mine, theirs = self.sockets()
        mine.settimeout(PATIENCE)
        with Connection(theirs, "developer", **options) as auditor, mine:
            yield mine, auditor


def background(function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Run in a thread of its own that ends with the function."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 handed to whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
