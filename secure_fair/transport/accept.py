"""Accepting peers: one port that keeps serving while strangers, wrong certificates and silent clients come by."""

from __future__ import annotations

import logging
import math
import select
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from secure_fair.errors import PeerLostError
from secure_fair.transport.tls import (
    ACCEPTED,
    HANDSHAKE_SECONDS,
    REFUSED,
    address_of,
    check_fingerprint,
    matches,
    prepare,
)

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

    def __enter__(self) -> Acceptor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def accept(self, fingerprints: Mapping[str, str], timeout: float) -> tuple[str, ssl.SSLSocket]:
        """Wait for one of the peers (name -> fingerprint) and return its name and socket.

        Anyone else is told that it is refused where TLS lets us, logged, and forgotten; with no fingerprints at all
        everyone is. Raises PeerLostError, naming the peers, after `timeout` seconds; accept may then be called again.
        """
        for peer, fingerprint in fingerprints.items():
            check_fingerprint(fingerprint, peer)
        deadline = time.monotonic() + timeout
        while (now := time.monotonic()) < deadline:
            for descriptor in [d for d, pending in self._pending.items() if pending.deadline <= now]:
                self._drop(descriptor, "no handshake in time")
            for descriptor in self._ready(min([deadline, *(p.deadline for p in self._pending.values())]) - now):
                if descriptor == self._listener.fileno():
                    self._admit()
                elif descriptor in self._pending and self._advance(descriptor):
                    known = self._judge(descriptor, fingerprints)
                    if known is not None:
                        return known, self._pending.pop(descriptor).sock
                    self._drop(descriptor, "its certificate is not pinned, or not expected now")
        raise PeerLostError(
            f"waited {timeout:g} s at {self.address} for {' or '.join(fingerprints) or 'nobody'}; "
            "start it, or check the address it has for us"
        )

    def close(self) -> None:
        """Close the port and every unfinished handshake."""
        for pending in self._pending.values():
            pending.sock.close()
        self._pending.clear()
        self._listener.close()

    def _ready(self, seconds: float) -> list[int]:
        """File descriptors on which something happened within `seconds`."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        for descriptor, pending in self._pending.items():
            poll.register(descriptor, pending.events)
        return [descriptor for descriptor, _ in poll.poll(math.ceil(max(0.0, seconds) * 1000))]

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

    def _judge(self, descriptor: int, fingerprints: Mapping[str, str]) -> str | None:
        """Which peer this is, told that it is accepted; or None, told that it is refused."""
        sock = self._pending[descriptor].sock
        for peer, fingerprint in fingerprints.items():
            if matches(sock, fingerprint):
                return peer if _tell(sock, ACCEPTED) else None
        _tell(sock, REFUSED)
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
