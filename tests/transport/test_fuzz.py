"""Hostile bytes from an authenticated peer, and from strangers at the port: one clean error, and the port serves on.

An independent parser says what must come of each stream of bytes; the connection must agree.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import tracemalloc
from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import strategies as st

from secure_fair.errors import FrameError, PeerLostError, PeerRefusedError, TransportError
from secure_fair.transport import tls
from secure_fair.transport.frames import Connection
from tests.transport.channels import PATIENCE, Pki, background

KIND = 20
MAX_FRAME = 2000
MAX_BODY = 1000  # what the receiver expects
FRAMES_A_STREAM = 4
Outcome = tuple[list[bytes], set[type[TransportError]]]


def predict(stream: bytes) -> Outcome:
    """Bodies that are handed out, and the errors that may follow (a truncated bad frame may be either)."""
    bodies: list[bytes] = []
    sequence = 0
    while len(stream) >= 20:
        version, kind, number, length = struct.unpack(">HHQQ", stream[:20])
        body, stream = stream[20 : 20 + length], stream[20 + length :]
        limit = {0: 0, 1: 2048, 2: 0}.get(kind, MAX_FRAME)
        if version != 1 or number != sequence or 3 <= kind < 16 or length > limit:
            return bodies, {FrameError}
        whole = len(body) == length
        if kind == 1:
            return bodies, {PeerRefusedError if whole else PeerLostError}
        if kind == 2:
            return bodies, {PeerLostError}
        if kind != 0 and (kind != KIND or length > MAX_BODY):
            return bodies, {FrameError} if whole else {FrameError, PeerLostError}
        if kind == KIND and whole:
            bodies.append(body)
        sequence += 1
    return bodies, {PeerLostError}


def observe(pki: Pki, stream: bytes) -> tuple[list[bytes], type[TransportError]]:
    mine, theirs = pki.sockets()
    bodies: list[bytes] = []
    with Connection(theirs, "developer", max_frame=MAX_FRAME, timeout_seconds=PATIENCE) as auditor:
        with mine, contextlib.suppress(OSError):  # it may close on us before we are done
            mine.settimeout(PATIENCE)
            mine.sendall(stream)
        with pytest.raises(TransportError, match="developer") as caught:
            receive_into(bodies, auditor)
    assert str(caught.value).isprintable()
    return bodies, next(kind for kind in caught.type.__mro__ if kind.__module__ == "secure_fair.errors")


def receive_into(bodies: list[bytes], connection: Connection) -> None:
    while True:
        bodies.append(bytes(connection.receive(KIND, max_size=MAX_BODY)))


def check(pki: Pki, stream: bytes) -> None:
    bodies, errors = predict(stream)
    seen, error = observe(pki, stream)
    assert seen == bodies
    assert error in errors


frames = st.tuples(
    st.sampled_from([1, 1, 1, 1, 1, 1, 0, 2, 257]),  # version
    st.sampled_from([KIND, KIND, KIND, KIND, 0, 0, 1, 2, 3, 15, 16, 65535]),  # kind
    st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1, -1, 2**63]),  # added to the right sequence number
    st.one_of(st.none(), st.none(), st.none(), st.integers(0, 3000), st.integers(0, 2**64 - 1)),  # length; None: right
    st.binary(max_size=1200),
)


def encode(drawn: Sequence[tuple[int, int, int, int | None, bytes]], cut: int) -> bytes:
    out = b""
    for sequence, (version, kind, shift, length, body) in enumerate(drawn):
        sent = b"" if kind in (0, 2) and length is None else body
        number = (sequence + shift) % 2**64
        out += struct.pack(">HHQQ", version, kind, number, len(sent) if length is None else length) + sent
    return out[: len(out) - cut]


def run_structured(pki: Pki, count: int) -> None:
    @hypothesis.settings(max_examples=count // FRAMES_A_STREAM, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(
        st.lists(frames, min_size=FRAMES_A_STREAM, max_size=FRAMES_A_STREAM), st.sampled_from([0, 0, 0, 1, 30])
    )
    def run(drawn: list[tuple[int, int, int, int | None, bytes]], cut: int) -> None:
        check(pki, encode(drawn, cut))

    run()


def mutate(source: random.Random, stream: bytearray) -> bytearray:
    at, end = sorted(source.randrange(len(stream) + 1) for _ in range(2))
    match source.randrange(5):
        case 0:
            stream[at:end] = b""  # truncate or cut out
        case 1:
            stream[at:at] = source.randbytes(source.randrange(1, 40))
        case 2:
            stream[at:at] = stream[at:end]  # replay
        case 3:
            stream[:] = stream[end:] + stream[at:end] + stream[:at]  # reorder
        case _:
            for _ in range(source.randrange(1, 9)):
                stream[source.randrange(len(stream))] ^= 1 << source.randrange(8)
    return stream


def run_raw(pki: Pki, count: int, seed: int) -> None:
    source = random.Random(seed)
    for _ in range(count // FRAMES_A_STREAM):
        kinds = [source.choice((KIND, KIND, KIND, 0, 1)) for _ in range(FRAMES_A_STREAM)]
        drawn = [(1, kind, 0, None, source.randbytes(source.randrange(60))) for kind in kinds]
        check(pki, bytes(mutate(source, bytearray(encode(drawn, 0)))))


def test_structured_frames(pki: Pki) -> None:
    run_structured(pki, 1000)


def test_mutated_bytes(pki: Pki) -> None:
    run_raw(pki, 1000, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_thousand_frames(pki: Pki) -> None:
    tracemalloc.start()
    try:
        run_structured(pki, 10_000)
        run_raw(pki, 10_000, seed=2)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def hello(pki: Pki) -> bytes:
    """The first flight of a real client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls.client_context(pki.developer).wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def knock(address: str, said: bytes) -> None:
    with socket.create_connection(tls.parse_address(address), PATIENCE) as raw, contextlib.suppress(OSError):
        raw.sendall(said)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(4096):
            pass


def test_strangers_with_mutated_handshakes_leave_the_port_serving(pki: Pki) -> None:
    source = random.Random(3)
    first = hello(pki)
    with pki.acceptor() as port:
        accepted = background(port.accept, pki.pin_developer, 60.0)
        for _ in range(300):
            knock(port.address, bytes(mutate(source, bytearray(first))))
        with pki.connect(port.address):
            peer, sock = accepted.result(PATIENCE)
            sock.close()
            assert peer == "developer"
