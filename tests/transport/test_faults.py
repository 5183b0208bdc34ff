"""Peers that die, stall, are slow, or are silent: noticed in time, and nobody else is blamed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from secure_fair.errors import PeerLostError, PeerStalledError, TransportError
from secure_fair.transport.frames import MEBIBYTE, Connection
from tests.transport.channels import PATIENCE, Pki, background
from tests.transport.peer import READY

ROOT = Path(__file__).parents[2]
TIMEOUT = 1.0
PROMPT = 5.0  # seconds: a death or a stall of TIMEOUT is noticed by then on any machine


@contextmanager
def process(
    pki: Pki, *, timeout: float = TIMEOUT, on_failure: Callable[[TransportError], None] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Connection]]:
    """A developer in a process of its own (its timeout is TIMEOUT), and the auditor's connection to it."""
    with pki.acceptor() as port:
        arguments = [port.address, str(pki.directory), pki.pin_auditor, str(TIMEOUT)]
        command = [sys.executable, "-m", "tests.transport.peer", *arguments]
        child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            _, sock = port.accept(pki.pin_developer, PATIENCE)
            with Connection(sock, "developer", timeout_seconds=timeout, on_failure=on_failure) as connection:
                connection.receive(READY, 0)
                yield child, connection
        finally:
            child.kill()
            child.wait(PATIENCE)


def work(connection: Connection, busy: str, noticed: threading.Event) -> None:
    """Receive, send, or compute, until the connection fails."""
    if busy == "computing":
        assert noticed.wait(PATIENCE)
    if busy == "sending":
        for _ in range(64):
            connection.send(READY, bytes(MEBIBYTE))
    connection.receive(READY)


@pytest.mark.parametrize("busy", ["receiving", "sending", "computing"])
def test_a_stopped_process_is_a_stalled_peer(pki: Pki, busy: str) -> None:
    failures: list[TransportError] = []
    noticed = threading.Event()

    def on_failure(error: TransportError) -> None:
        failures.append(error)
        noticed.set()

    with process(pki, on_failure=on_failure) as (child, connection):
        time.sleep(1.5 * TIMEOUT)  # its heartbeats keep the connection alive
        assert not failures
        os.kill(child.pid, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(PeerStalledError, match=r"developer did not (send anything|take what we send) for 1 s"):
            work(connection, busy, noticed)
        ended = time.monotonic()
        assert ended - started < PROMPT
        assert ended - connection._stream.heard > 0.7 * TIMEOUT  # its last heartbeat may be older than the signal
        assert noticed.wait(PATIENCE)
        started = time.monotonic()
        connection.fail("the developer stalled")
        assert time.monotonic() - started < PROMPT
    assert [type(failure) for failure in failures] == [PeerStalledError]


@pytest.mark.parametrize("busy", ["receiving", "sending", "computing"])
def test_a_killed_process_is_noticed_at_once(pki: Pki, busy: str) -> None:
    noticed = threading.Event()
    with process(pki, on_failure=lambda _: noticed.set()) as (child, connection):
        if busy == "sending":
            child.send_signal(signal.SIGSTOP)
        threading.Timer(0.2, child.kill).start()
        started = time.monotonic()
        with pytest.raises(PeerLostError, match="developer went away"):
            work(connection, busy, noticed)
        assert time.monotonic() - started < PROMPT
        assert noticed.wait(PATIENCE)


def test_a_process_that_was_stopped_itself_blames_nobody(pki: Pki) -> None:
    """The child is stopped for two of its own timeouts; our heartbeats wait for it, and it goes on."""
    with process(pki, timeout=PATIENCE) as (child, connection):
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(2 * TIMEOUT)
        os.kill(child.pid, signal.SIGCONT)
        time.sleep(0.5 * TIMEOUT)
        connection.send(READY, b"are you there?")
        assert connection.receive(READY) == b"are you there?"


def test_heartbeats_keep_a_slow_peer_alive(pki: Pki) -> None:
    with pki.pair(timeout_seconds=1.2) as (developer, auditor):
        received = background(auditor.receive, READY)
        time.sleep(2.5)
        developer.send(READY, b"at last")
        assert received.result(PATIENCE) == b"at last"


def test_a_peer_with_a_longer_timeout_beats_often_enough_for_a_shorter_one(pki: Pki) -> None:
    mine, theirs = pki.sockets()
    with (
        Connection(mine, "auditor", timeout_seconds=600) as developer,
        Connection(theirs, "developer", timeout_seconds=1.6) as auditor,
    ):
        received = background(auditor.receive, READY)
        time.sleep(2.5)
        developer.send(READY, b"x")
        assert received.result(PATIENCE) == b"x"


def test_a_silent_peer_stalls_in_the_middle_of_a_frame_too(pki: Pki) -> None:
    with pki.raw_peer(timeout_seconds=0.5) as (peer, auditor):
        peer.sendall(b"\0\1")
        with pytest.raises(PeerStalledError, match=r"for 0\.5 s"):
            auditor.receive(READY)


def test_a_receiver_that_computes_for_long_blames_nobody(pki: Pki) -> None:
    """Back-pressure: its queue is full for three timeouts; neither side takes the other for stalled."""
    with pki.pair(timeout_seconds=1.2, queue_bytes=MEBIBYTE, max_frame=MEBIBYTE) as (developer, auditor):

        def send_all() -> None:
            for _ in range(40):
                developer.send(READY, bytes(MEBIBYTE))

        sending = background(send_all)
        time.sleep(3.7)
        for _ in range(40):
            assert len(auditor.receive(READY)) == MEBIBYTE
        sending.result(PATIENCE)
        auditor.send(READY, b"and back")
        assert developer.receive(READY) == b"and back"


def test_two_that_fill_each_other_beyond_the_queue_end_with_an_error(pki: Pki) -> None:
    with pki.pair(timeout_seconds=0.5, queue_bytes=MEBIBYTE, max_frame=MEBIBYTE) as (developer, auditor):

        def send_all(end: Connection) -> None:
            for _ in range(100_000):  # more than any socket's buffers hold
                end.send(READY, bytes(MEBIBYTE))

        ends = [background(send_all, end) for end in (developer, auditor)]
        for end in ends:
            with pytest.raises(TransportError):
                end.result(PATIENCE)


def test_no_thread_and_no_descriptor_is_left(pki: Pki) -> None:
    def open_descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0

    with pki.pair():
        pass
    threads, descriptors = threading.active_count(), open_descriptors()
    for _ in range(20):
        with pki.pair() as (developer, auditor):
            developer.send(READY, b"x")
            auditor.fail("enough")
    deadline = time.monotonic() + PROMPT
    while (threading.active_count() > threads or open_descriptors() > descriptors) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads
    assert open_descriptors() <= descriptors
