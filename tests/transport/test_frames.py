"""Frames between two live ends: what arrives, what is counted, and what is refused."""

from __future__ import annotations

import random
import time
import tracemalloc

import pytest

from secure_fair.errors import FrameError, TransportError
from secure_fair.transport.frames import MEBIBYTE, RECORD, Connection
from secure_fair.transport.wire import (
    CLOSE,
    ERROR,
    HEADER,
    HEARTBEAT,
    MAX_ERROR_BYTES,
)
from tests.transport.by_hand import A, B, frame, send_many, socket_buffers
from tests.transport.channels import PATIENCE, Pki, background


@pytest.mark.parametrize(
    "size", [0, 1, RECORD - HEADER.size, RECORD - HEADER.size + 1, RECORD, 3 * RECORD + 7, MEBIBYTE]
)
def test_frames_of_every_size_arrive_whole_and_in_order(pki: Pki, size: int) -> None:
    content = random.Random(size).randbytes(size)
    with pki.pair() as (developer, auditor):
        for _ in range(3):
            developer.send(A, content)
        developer.send(B, memoryview(content)[: size // 2], b"", bytearray(content[size // 2 :]))
        for _ in range(3):
            assert auditor.receive(A, size) == content
        body = auditor.receive(B, max_size=size)
        assert body == content
        assert isinstance(body, bytearray)  # the receiver's own and writable: it can back a tensor without a copy


def test_a_typed_buffer_is_sent_as_its_bytes(pki: Pki) -> None:
    numbers = memoryview(bytearray(range(240))).cast("q", (5, 6))
    with pki.pair() as (developer, auditor):
        developer.send(A, numbers)
        assert auditor.receive(A, 240) == bytes(range(240))
        with pytest.raises(TypeError, match="contiguous"):
            developer.send(A, memoryview(bytes(16))[::2])
        developer.send(A, b"and goes on")
        assert auditor.receive(A) == b"and goes on"


def test_counters_count_frames_with_headers_and_turns(pki: Pki) -> None:
    with pki.pair(timeout_seconds=1.2) as (developer, auditor):
        for turn in range(3):
            developer.send(A, bytes(100))
            developer.send(A, bytes(turn))
            assert len(auditor.receive(A)) == 100
            assert len(auditor.receive(A)) == turn
            auditor.send(B, bytes(10))
            developer.receive(B)
            time.sleep(0.4)  # for a heartbeat, which must not be counted
        assert (developer.messages_sent, developer.messages_received, developer.rounds) == (6, 3, 3)
        assert (auditor.messages_sent, auditor.messages_received, auditor.rounds) == (3, 6, 2)
        assert developer.bytes_sent == auditor.bytes_received == 6 * HEADER.size + 300 + 0 + 1 + 2
        assert auditor.bytes_sent == developer.bytes_received == 3 * (HEADER.size + 10)


def test_both_may_send_64_megabytes_before_either_receives(pki: Pki) -> None:
    size = 64 * MEBIBYTE
    with pki.pair() as (developer, auditor):

        def exchange(end: Connection, value: int) -> bool:
            end.send(A, bytes([value]) * size)
            return end.receive(A, size) == bytes([value ^ 1]) * size

        other = background(exchange, auditor, 1)
        assert exchange(developer, 0)
        assert other.result(PATIENCE)


def test_several_threads_may_send(pki: Pki) -> None:
    with pki.pair() as (developer, auditor):
        sent = [background(lambda value=value: developer.send(A, bytes([value]) * 50_000)) for value in range(8)]
        got = sorted(bytes(auditor.receive(A, 50_000)) for _ in sent)
        assert got == [bytes([value]) * 50_000 for value in range(8)]


def test_back_pressure_bounds_memory(pki: Pki) -> None:
    with pki.pair(max_frame=MEBIBYTE, queue_bytes=3 * MEBIBYTE) as (developer, auditor):
        content = bytes(MEBIBYTE)
        tracemalloc.start()
        try:
            count = 20 + socket_buffers() // MEBIBYTE
            sending = background(send_many, developer, count, content)
            before = -1
            while developer.messages_sent != before:  # until nothing moves any more
                before = developer.messages_sent
                time.sleep(0.3)
            # The queue, one frame on its way, and what the operating system holds; not all of them.
            assert before <= 3 + 1 + socket_buffers() // MEBIBYTE
            assert not sending.done()
            assert tracemalloc.get_traced_memory()[1] < 4 * MEBIBYTE
        finally:
            tracemalloc.stop()
        for _ in range(count):
            assert auditor.receive(A) == content
        sending.result(PATIENCE)


def test_small_frames_count_against_the_queue_too(pki: Pki) -> None:
    with pki.pair(queue_bytes=64 * 1024) as (developer, auditor):
        sending = background(send_many, developer, 100_000_000, b"")  # never done: more than any socket's buffers hold
        deadline = time.monotonic() + PATIENCE
        while len(auditor._queue) < 256 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        assert len(auditor._queue) == 256  # 64 KiB at 256 bytes an empty frame
        auditor.close()
        with pytest.raises(TransportError):
            sending.result(PATIENCE)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (frame(0, b"x", version=2), "developer speaks frame version 2, we 1"),
        (frame(1, b"x"), "sent frame 1 where 0 follows"),
        (frame(0, b"x") + frame(0, b"x"), "sent frame 0 where 1 follows: replayed"),
        (frame(0, b"x") + frame(2, b"x") + frame(1, b"x"), "sent frame 2 where 1 follows"),
        (frame(0, b"x", kind=B), rf"developer sent a frame of kind {B} where kind \({A}\) is due"),
        (frame(0, b"x", kind=3), "unknown kind 3"),
        (frame(0, length=2**63), f"a frame of kind 16 and {2**63} bytes; the limit is 1000"),
        (frame(0, b"x" * 900), r"sent 900 bytes for kind \(16\); it may be 500 at most"),
        (frame(0, b"x", kind=HEARTBEAT), "of kind [02] and 1 bytes; the limit is 0"),
        (frame(0, b"x", kind=CLOSE), "of kind [02] and 1 bytes; the limit is 0"),
        (frame(0, b"x" * (MAX_ERROR_BYTES + 1), kind=ERROR), "kind 1 and 2049 bytes; the limit is 2048"),
        (b"GET / HTTP/1.1\r\nHost: auditor\r\n\r\n", "speaks frame version"),
    ],
    ids=[
        "version",
        "first number",
        "replay",
        "order",
        "kind",
        "reserved kind",
        "huge",
        "larger than expected",
        "heartbeat with body",
        "close with body",
        "long error",
        "http",
    ],
)
@pytest.mark.parametrize("waiting", [True, False], ids=["waiting", "later"])
def test_frames_that_are_refused(pki: Pki, sent: bytes, said: str, waiting: bool) -> None:
    with pki.raw_peer(max_frame=1000) as (peer, auditor):

        def receive_all() -> None:
            while True:
                auditor.receive(A, max_size=500)

        received = background(receive_all) if waiting else None
        if received is not None:
            time.sleep(0.05)
        peer.sendall(sent)
        with pytest.raises(FrameError, match=said):
            (received or background(receive_all)).result(PATIENCE)
        with pytest.raises(FrameError):
            auditor.send(A, b"a connection that failed stays failed")


def test_a_wrong_size_is_refused_before_memory_is_taken(pki: Pki) -> None:
    with pki.raw_peer(max_frame=1 << 40) as (peer, auditor):
        received = background(auditor.receive, A, 8)
        time.sleep(0.1)
        tracemalloc.start()
        try:
            peer.sendall(frame(0, length=1 << 38))
            with pytest.raises(FrameError, match=rf"sent {1 << 38} bytes for kind \(16\); it must be 8"):
                received.result(PATIENCE)
            assert tracemalloc.get_traced_memory()[1] < MEBIBYTE
        finally:
            tracemalloc.stop()


def test_more_than_memory_holds_is_an_error_and_no_hang(pki: Pki) -> None:
    with pki.raw_peer(max_frame=1 << 62) as (peer, auditor):
        peer.sendall(frame(0, length=1 << 61))
        with pytest.raises(FrameError, match="larger than this machine's memory"):
            auditor.receive(A)
