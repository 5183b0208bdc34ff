"""What somebody on the wire sees: TLS records only, as many bytes as the counters and the known overhead say."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from secure_fair.transport import tls
from secure_fair.transport.frames import Connection
from secure_fair.transport.wire import FIRST_KIND
from tests.transport.channels import PATIENCE, Pki, background

HANDSHAKE_BYTES = 8192  # two certificates and signatures; about 3 kB in all
RECORD_BYTES = 16384
OVERHEAD = 5 + 1 + 16  # header, inner content type, tag of AES-GCM (RFC 8446, section 5.2)


class Tap:
    """A TCP proxy that keeps a copy of each direction of each connection."""

    def __init__(self, target: str) -> None:
        self._target = tls.parse_address(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = tls.address_of(self._listener)
        self.connections: list[tuple[bytearray, bytearray]] = []
        self._copying: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()

    @property
    def seen(self) -> tuple[bytearray, bytearray]:
        """What the only connection carried: from client to server, and back."""
        (only,) = self.connections
        return only

    def _serve(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return  # closed
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()  # nobody there yet: the client tries again
                continue
            seen = (bytearray(), bytearray())
            self.connections.append(seen)
            self._sockets += [client, server]
            for source, sink, copy in ((client, server, seen[0]), (server, client, seen[1])):
                self._copying.append(threading.Thread(target=self._copy, args=(source, sink, copy), daemon=True))
                self._copying[-1].start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket, seen: bytearray) -> None:
        with contextlib.suppress(OSError):  # one end has gone without a word
            while part := source.recv(65536):
                seen += part
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for thread in self._copying:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        for sock in self._sockets:
            sock.close()
        socket.socket.shutdown(self._listener, socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        self._serving.join(PATIENCE)


@contextmanager
def tapped(pki: Pki) -> Iterator[tuple[Connection, Connection, Tap]]:
    with pki.acceptor() as port:
        tap = Tap(port.address)
        accepted = background(port.accept, pki.pin_developer, PATIENCE)
        with (
            Connection(pki.connect(tap.address), "auditor") as developer,
            Connection(accepted.result(PATIENCE)[1], "developer") as auditor,
        ):
            yield developer, auditor, tap
        tap.close()


def records(stream: bytearray) -> list[tuple[int, int]]:
    """(content type, length) of each TLS record; nothing may be left over."""
    found = []
    at = 0
    while at < len(stream):
        kind, major, minor, length = struct.unpack_from("!BBBH", stream, at)
        assert kind in (20, 21, 22, 23)
        assert (major, minor) in ((3, 3), (3, 1))
        assert length <= RECORD_BYTES + 256
        found.append((kind, length))
        at += 5 + length
    assert at == len(stream)
    return found


def test_only_tls_records_cross_the_wire(pki: Pki) -> None:
    secret = b"the attribute of record r000017 " * 4
    with tapped(pki) as (developer, auditor, tap):
        for size in (0, 1, 1000, 16364, 16365, 100_000, 1 << 20):
            developer.send(FIRST_KIND, secret, bytes(size))
            auditor.send(FIRST_KIND, auditor.receive(FIRST_KIND))
            developer.receive(FIRST_KIND)
    for stream in tap.seen:
        kinds = [kind for kind, _ in records(stream)]
        assert set(kinds) <= {20, 22, 23}
        assert kinds.count(23) > len(kinds) // 2
        assert secret[:32] not in stream


def test_bytes_on_the_wire_are_the_counters_and_the_overhead_of_tls(pki: Pki) -> None:
    with tapped(pki) as (developer, auditor, tap):
        for size in (8 * 64 * 768, 8 * 64 * 2, 100) * 5:
            developer.send(FIRST_KIND, bytes(size))
            auditor.receive(FIRST_KIND, size)
        sent, messages = developer.bytes_sent, developer.messages_sent
    extra = len(tap.seen[0]) - sent
    assert 0 < extra <= HANDSHAKE_BYTES + OVERHEAD * (sent / RECORD_BYTES + 2 * messages + 10)
    assert extra < 0.02 * sent  # what a report may leave out
