"""A link of known delay and bandwidth between two TCP ends, in user space: it works where the kernel has no netem.

Each direction: bytes wait until the line is free, take `bytes / bandwidth` on it, and arrive half a round trip later.
Threads and not asyncio, whose timers are rounded up to milliseconds. The relay sees TLS's bytes and understands none.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from secure_fair.transport.tls import parse_address

PIECE = 1 << 14
START_SECONDS = 60.0
SPIN_SECONDS = 2e-4  # sleep is late by about so much


@dataclass(frozen=True)
class Link:
    """Round-trip time in seconds and bits a second in each direction; inf bits and 0 seconds: the bare loopback."""

    name: str
    round_trip: float
    bits_per_second: float

    def seconds(self, rounds: float, number_of_bytes: float) -> float:
        """What the link alone costs: rounds * RTT + bytes / bandwidth, the bytes of one direction after the other."""
        return rounds * self.round_trip + 8 * number_of_bytes / self.bits_per_second


@contextlib.contextmanager
def relayed(link: Link, target: str) -> Iterator[str]:
    """The address of a relay to `target` (host:port), a process of its own that ends with the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, link, target), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(START_SECONDS):
            raise TimeoutError("the relay did not start")
        yield ours.recv()
    finally:
        process.kill()
        process.join()
        ours.close()


def _serve(pipe: Pipe, link: Link, target: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    pipe.send(f"127.0.0.1:{listener.getsockname()[1]}")
    while True:
        near, _ = listener.accept()
        far = socket.create_connection(parse_address(target))
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in ((near, far), (far, near)):
            line: queue.Queue[tuple[float, bytes]] = queue.Queue(_pieces_in_flight(link))
            threading.Thread(target=_read, args=(link, source, line), daemon=True).start()
            threading.Thread(target=_write, args=(sink, line), daemon=True).start()


def _pieces_in_flight(link: Link) -> int:
    """What the line holds for half a round trip, and a socket buffer's worth before it."""
    return 64 + int(link.round_trip / 2 * link.bits_per_second / 8 / PIECE)


def _read(link: Link, source: socket.socket, line: queue.Queue[tuple[float, bytes]]) -> None:
    free = time.perf_counter()
    data = b"start"
    while data:
        try:
            data = source.recv(PIECE)
        except OSError:
            data = b""
        free = max(free, time.perf_counter()) + 8 * len(data) / link.bits_per_second
        line.put((free + link.round_trip / 2, data))


def _write(sink: socket.socket, line: queue.Queue[tuple[float, bytes]]) -> None:
    data = b"start"
    while data:
        due, data = line.get()
        _wait_until(due)
        try:
            if data:
                sink.sendall(data)
            else:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


def _wait_until(due: float) -> None:
    remaining = due - time.perf_counter() - SPIN_SECONDS
    if remaining > 0:
        time.sleep(remaining)
    while time.perf_counter() < due:
        pass
