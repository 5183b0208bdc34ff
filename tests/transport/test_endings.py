"""How connections end: truncated, refused, damaged, interrupted; and what the other side is told."""

from __future__ import annotations

import queue
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from secure_fair.errors import FrameError, PeerLostError, PeerRefusedError, TransportError
from secure_fair.transport import frames
from secure_fair.transport.frames import MEBIBYTE, Connection
from secure_fair.transport.wire import (
    CLOSE,
    ERROR,
    FIRST_KIND,
    HEARTBEAT,
    MAX_ERROR_BYTES,
    parse_header,
)
from tests.transport.by_hand import A, B, frame, send_many
from tests.transport.channels import PATIENCE, Pki, background


def test_truncation_is_told_from_a_proper_end(pki: Pki) -> None:
    with pki.raw_peer() as (peer, auditor):
        peer.sendall(frame(0, b"whole") + frame(1, b"cut", length=10))
        peer.close()
        assert auditor.receive(A) == b"whole"
        with pytest.raises(PeerLostError, match="developer went away without closing"):
            auditor.receive(A)
    with pki.pair() as (developer, auditor):
        developer.send(A, b"whole")
        developer.close()
        assert auditor.receive(A) == b"whole"
        with pytest.raises(PeerLostError, match="developer closed the connection before we were done"):
            auditor.receive(A)


def test_the_last_frame_survives_a_close_at_once(pki: Pki) -> None:
    seconds = []
    for _ in range(20):
        with pki.pair() as (developer, auditor):
            auditor.send(A, bytes(100_000))  # unread at the developer: a careless close would reset the connection
            developer.send(B, bytes(100_000))
            started = time.monotonic()
            developer.close()
            seconds.append(time.monotonic() - started)
            assert len(auditor.receive(B)) == 100_000
    assert statistics.median(seconds) < 0.9  # it need not wait for a peer that is alive


def test_an_error_frame_brings_the_words_of_the_peer(pki: Pki) -> None:
    failures: list[TransportError] = []
    mine, theirs = pki.sockets()
    developer, auditor = Connection(mine, "auditor"), Connection(theirs, "developer", on_failure=failures.append)
    developer.fail("step 7: no such\x1b[2J column\r\n" + "é" * 5000)
    with pytest.raises(PeerRefusedError, match=r"^developer: step 7: no such\[2J columné+") as caught:
        auditor.receive(A)
    assert len(str(caught.value).encode()) < MAX_ERROR_BYTES + 20
    with pytest.raises(PeerRefusedError, match="step 7"):
        auditor.send(A, b"x")
    auditor.close()
    assert [type(failure) for failure in failures] == [PeerRefusedError]
    developer.fail("again")  # closed already: nothing happens
    with pytest.raises(TransportError, match="closed on our side"):
        developer.send(A)


def test_a_refusal_reaches_a_peer_that_is_busy_sending(pki: Pki) -> None:
    with pki.pair(queue_bytes=1000) as (developer, auditor):
        sending = background(send_many, developer, 64, bytes(MEBIBYTE))
        auditor.receive(A)
        auditor.fail("the policy does not allow it")
        with pytest.raises(PeerRefusedError, match="auditor: the policy does not allow it"):
            sending.result(PATIENCE)


def test_we_may_say_why_after_a_bad_frame(pki: Pki) -> None:
    with pki.pair() as (developer, auditor):
        developer.send(B, b"x")
        with pytest.raises(FrameError) as caught:
            auditor.receive(A)
        auditor.fail(str(caught.value))
        with pytest.raises(PeerRefusedError, match="auditor: developer sent a frame of kind 17"):
            developer.receive(A)


def test_damage_on_the_wire_is_noticed_by_tls(pki: Pki) -> None:
    with pki.raw_peer() as (peer, auditor):
        received = background(auditor.receive, A)
        # Below TLS: a record of the right form that the peer's keys did not make.
        tcp = peer.detach()
        with socket.socket(fileno=tcp) as raw:
            raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
            with pytest.raises(FrameError, match="BAD_RECORD_MAC"):
                received.result(PATIENCE)


def test_misuse_is_refused(pki: Pki) -> None:
    with pki.pair(max_frame=100) as (developer, auditor):
        for kind in (HEARTBEAT, ERROR, CLOSE, 15, -1, 65536):
            with pytest.raises(ValueError, match="kind is between"):
                developer.send(kind)
        with pytest.raises(FrameError, match="101 bytes to auditor exceeds 100; send it in parts"):
            developer.send(A, bytes(101))
        developer.send(A, bytes(100))
        assert len(auditor.receive(A)) == 100
        auditor.close()
        with pytest.raises(TransportError, match="closed on our side"):
            auditor.receive(A)


def test_an_interrupted_send_poisons_the_connection(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    with pki.pair() as (developer, auditor):
        original: Callable[..., int] = ssl.SSLSocket.send
        calls: list[int] = []

        def interrupted(sock: ssl.SSLSocket, data: memoryview, flags: int = 0) -> int:
            calls.append(len(data))
            if len(calls) == 5:
                raise KeyboardInterrupt
            return original(sock, data, flags)

        monkeypatch.setattr(ssl.SSLSocket, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            developer.send(A, bytes(MEBIBYTE))
        with pytest.raises(TransportError, match="interrupted"):
            developer.send(A, b"must not land in the middle of the other frame")
        developer.close()
        with pytest.raises(PeerLostError, match="without closing"):
            auditor.receive(A)


def test_an_unexpected_error_of_the_reader_ends_a_wait(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect in the reader must not leave the receiver waiting; its text, which may hold what came, stays inside."""

    sound = parse_header

    def defect(*arguments: Any) -> tuple[int, int]:
        if threading.current_thread().name == "frames from developer":  # the other end's reader shares the module
            raise RuntimeError("4711")
        return sound(*arguments)

    failures: queue.Queue[TransportError] = queue.Queue()
    with pki.pair(on_failure=failures.put) as (_, auditor):
        waiting = background(auditor.receive, FIRST_KIND)
        monkeypatch.setattr(frames, "parse_header", defect)
        with pytest.raises(TransportError, match="reading from developer failed with RuntimeError") as told:
            waiting.result(PATIENCE)
        assert "4711" not in str(told.value)
        with pytest.raises(TransportError, match="RuntimeError"):
            auditor.receive(FIRST_KIND)
        assert type(failures.get(timeout=PATIENCE)) is TransportError
