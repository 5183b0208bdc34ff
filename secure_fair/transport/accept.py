"""Accepting peers: one port that keeps serving while strangers, wrong certificates and silent clients come by."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

from secure_fair.errors import PeerLostError
from secure_fair.transport.tls import (
    ACCEPTED,
    BUSY,
    HANDSHAKE_SECONDS,
    REFUSED,
    Pins,
    address_of,
    check_fingerprint,
    matches,
    prepare,
)

_LONGEST_POLL = 3600.0  # seconds
MAX_PENDING = 16  # handshakes at once; a newcomer displaces the oldest, so silent clients cannot keep others out

_log = logging.getLogger(__name__)


@dataclass
class _Pending:
    sock: ssl.SSLSocket
    client: str
    deadline: float
    events: int = select.POLLIN


class Acceptor:
    """Accepts pinned peers on a listening socket, which it takes over. Use from one thread at a time."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        listener.setblocking(False)
        self.address = address_of(listener)
        self._listener = listener
        self._context = context
        self._pending: dict[int, _Pending] = {}  # by file descriptor, oldest first; outlives a call of accept
        self._stop_read, self._stop_write = os.pipe()

    def __enter__(self) -> Acceptor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def accept(
        self, expected: Mapping[str, Pins], timeout: float = math.inf, *, busy: Mapping[str, Pins] | None = None
    ) -> tuple[str, ssl.SSLSocket]:
        """Wait for one of the expected peers (name -> fingerprints) and return its name and socket.

        Anyone else is told that it is refused where TLS lets us, logged, and forgotten; those of `busy` are told that
        we serve somebody else. Raises PeerLostError, naming the peers, after `timeout` seconds; accept may then be
        called again.
        """
        for peer, pins in expected.items():
            check_fingerprint(pins, peer)
        found = self._serve(expected, busy or {}, time.monotonic() + timeout)
        if found is None:
            raise PeerLostError(
                f"waited {timeout:g} s at {self.address} for {' or '.join(expected) or 'nobody'}; "
                "start it, or check the address it has for us"
            )
        return found

    @contextlib.contextmanager
    def turning_away(self, busy: Mapping[str, Pins]) -> Iterator[None]:
        """Inside of the block a thread refuses everybody; those of `busy` are told that we serve somebody else."""
        thread = threading.Thread(target=self._serve, args=({}, busy, math.inf), name="turning away", daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.write(self._stop_write, b"\0")
            thread.join()
            os.read(self._stop_read, 1)

    def close(self) -> None:
        """Close the port and every unfinished handshake."""
        for pending in self._pending.values():
            pending.sock.close()
        self._pending.clear()
        self._listener.close()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _serve(
        self, expected: Mapping[str, Pins], busy: Mapping[str, Pins], deadline: float
    ) -> tuple[str, ssl.SSLSocket] | None:
        """Until one of `expected` has come; None at the deadline, or when the thread shall end."""
        while (now := time.monotonic()) < deadline:
            for descriptor in [d for d, pending in self._pending.items() if pending.deadline <= now]:
                self._drop(descriptor, "no handshake in time")
            for descriptor in self._ready(min([deadline, *(p.deadline for p in self._pending.values())]) - now):
                if descriptor == self._stop_read:
                    return None
                if descriptor == self._listener.fileno():
                    self._admit()
                elif descriptor in self._pending and self._advance(descriptor):
                    peer = self._judge(descriptor, expected, busy)
                    if peer is not None:
                        return peer, self._pending.pop(descriptor).sock
        return None

    def _ready(self, seconds: float) -> list[int]:
        """File descriptors on which something happened within `seconds`."""
        poll = select.poll()
        poll.register(self._stop_read, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        for descriptor, pending in self._pending.items():
            poll.register(descriptor, pending.events)
        return [descriptor for descriptor, _ in poll.poll(math.ceil(min(max(0.0, seconds), _LONGEST_POLL) * 1000))]

    def _admit(self) -> None:
        try:
            raw, address = self._listener.accept()
        except OSError:
            return  # the client has left again
        client = f"{address[0]} port {address[1]}"
        try:
            prepare(raw)
            raw.setblocking(False)
            sock = self._context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        except OSError as error:
            raw.close()
            _log.warning("refused a client from %s: %s", client, error)
            return
        if len(self._pending) >= MAX_PENDING:
            self._drop(next(iter(self._pending)), "too many unfinished handshakes")
        self._pending[sock.fileno()] = _Pending(sock, client, time.monotonic() + HANDSHAKE_SECONDS)

    def _advance(self, descriptor: int) -> bool:
        """Go on with a handshake; whether it is done."""
        pending = self._pending[descriptor]
        try:
            pending.sock.do_handshake()
            return True
        except ssl.SSLWantReadError:
            pending.events = select.POLLIN
        except ssl.SSLWantWriteError:
            pending.events = select.POLLOUT
        except OSError as error:
            detail = getattr(error, "verify_message", None) or getattr(error, "reason", None) or error.strerror
            self._drop(descriptor, str(detail))
        return False

    def _judge(self, descriptor: int, expected: Mapping[str, Pins], busy: Mapping[str, Pins]) -> str | None:
        """Which peer this is, told that it is accepted; or None, told that it is refused, and dropped."""
        sock = self._pending[descriptor].sock
        for peer, pins in expected.items():
            if matches(sock, pins):
                if _tell(sock, ACCEPTED):
                    return peer
                self._drop(descriptor, "it has left again")
                return None
        for peer, pins in busy.items():
            if matches(sock, pins):
                _tell(sock, BUSY)
                self._drop(descriptor, f"it is a {peer}, and another run is being served")
                return None
        _tell(sock, REFUSED)
        self._drop(descriptor, "its certificate is not pinned, or not expected now")
        return None

    def _drop(self, descriptor: int, reason: str) -> None:
        pending = self._pending.pop(descriptor)
        pending.sock.close()
        _log.warning("refused a client from %s: %s", pending.client, reason)


def _tell(sock: ssl.SSLSocket, answer: bytes) -> bool:
    try:
        return sock.send(answer) == 1
    except OSError:
        return False
