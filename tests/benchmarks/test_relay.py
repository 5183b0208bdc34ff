"""The relay against a link whose delay and bandwidth are known.

Other load on the machine can only make a link look slower: lower bounds are exact, upper bounds hold for the best of
as many attempts as it takes within a minute.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.network.relay import Link, relayed
from secure_fair.transport.tls import parse_address

ATTEMPTS = 8  # at least
TIMEOUT = 30.0
PATIENCE = 60.0


def attempts(seconds: list[float], limit: float) -> Iterator[int]:
    """ATTEMPTS, and more until one of `seconds`, which the caller fills, is within the limit."""
    deadline = time.monotonic() + PATIENCE
    for attempt in itertools.count():
        if attempt >= ATTEMPTS and (min(seconds) <= limit or time.monotonic() > deadline):
            return
        yield attempt


@contextmanager
def through(link: Link) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends with the link between them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT)
        with relayed(link, f"127.0.0.1:{listener.getsockname()[1]}") as address:
            near = socket.create_connection(parse_address(address), TIMEOUT)
            far, _ = listener.accept()
            far.settimeout(TIMEOUT)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with near, far:
                yield near, far


def received(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = end.recv(size - len(data))
        assert part, "the link ended early"
        data += part
    return bytes(data)


@pytest.mark.parametrize("milliseconds", [1.0, 20.0])
def test_a_round_trip_takes_its_time(milliseconds: float) -> None:
    seconds: list[float] = []
    limit = milliseconds / 1000 + 0.005
    with through(Link("known", milliseconds / 1000, 1e9)) as (near, far):
        for _ in attempts(seconds, limit):
            began = time.perf_counter()
            near.sendall(b"?")
            received(far, 1)
            far.sendall(b"!")
            received(near, 1)
            seconds.append(time.perf_counter() - began)
    assert min(seconds) >= milliseconds / 1000
    assert min(seconds) <= limit


@pytest.mark.parametrize("megabits", [100, 800])
def test_bytes_come_at_the_link_s_pace_in_order_and_unchanged(megabits: int) -> None:
    data = bytes(range(256)) * 4096  # 1 MiB
    wanted = 8 * len(data) / (megabits * 1e6) + 0.005
    seconds: list[float] = []
    limit = 1.3 * wanted + 0.005
    with through(Link("known", 0.010, megabits * 1e6)) as (near, far):
        for attempt in attempts(seconds, limit):
            sender, receiver = ((near, far), (far, near))[attempt % 2]
            sending = threading.Thread(target=sender.sendall, args=(data,))
            began = time.perf_counter()
            sending.start()
            assert received(receiver, len(data)) == data
            seconds.append(time.perf_counter() - began)
            sending.join(TIMEOUT)
    assert min(seconds) >= wanted
    assert min(seconds) <= limit


def test_directions_do_not_slow_each_other() -> None:
    data = bytes(1 << 20)
    alone = 8 * len(data) / 100e6
    both: list[float] = []
    with through(Link("known", 0.010, 100e6)) as (near, far):
        for _ in attempts(both, 1.5 * alone):
            sending = [threading.Thread(target=end.sendall, args=(data,)) for end in (near, far)]
            reading = threading.Thread(target=received, args=(near, len(data)))
            began = time.perf_counter()
            for thread in (*sending, reading):
                thread.start()
            received(far, len(data))
            for thread in (*sending, reading):
                thread.join(TIMEOUT)
            both.append(time.perf_counter() - began)
    assert alone <= min(both) <= 1.5 * alone


def test_an_end_travels_too() -> None:
    with through(Link("known", 0.001, 1e9)) as (near, far):
        near.sendall(b"last")
        near.shutdown(socket.SHUT_WR)
        assert received(far, 4) == b"last"
        assert far.recv(1) == b""


def test_the_model_of_a_link() -> None:
    assert Link("known", 0.05, 100e6).seconds(2, 1e6) == pytest.approx(0.1 + 0.08)
    assert Link("loopback", 0.0, float("inf")).seconds(2, 1e6) == 0.0
