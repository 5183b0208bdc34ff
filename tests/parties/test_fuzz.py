"""Hostile frames from a known peer, at every stage of a run, to the auditor's and the dealer's real listeners.

Each stream begins as an honest peer would and goes on with drawn frames, or with honest bytes that were mutated. The
service must end that run with an error that somebody has thought about, disclose nothing, stay small, and serve on.
The developer listens to nobody.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from parties.messages import AuditorHello
from secure_fair.data.alignment import ids_digest
from secure_fair.errors import TransportError
from secure_fair.mpc.dealing.source import CREDIT, CorrelationSource
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.moment import MomentShape
from secure_fair.privacy.ledger import Ledger
from secure_fair.transport import tls
from secure_fair.transport.frames import Connection
from tests.parties.commands import PATIENCE, Start
from tests.parties.records import record
from tests.parties.visits import Services, short_run
from tests.parties.world import Deployment
from tests.security.asking import IDS, honest_hello
from tests.transport.channels import background
from tests.transport.test_fuzz import knock, mutate

HEADER = struct.Struct(">HHQQ")
HEARTBEAT = 0
FRAMES_A_STREAM = 8
MOST_DESCRIPTORS = 20  # of a service that waits: 14 and 17
MOST_MEMORY = 64 << 20  # bytes that a service may grow by
PLAN = MomentShape(17, 1, 1, 20).plan()
AUDITOR_STAGES = ("hello", "ids", "records", "accepted", "blocks")
DEALER_STAGES = ("developer's plan", "developer's credit", "auditor's plan", "auditor's session")
Stream = Callable[["Raw", bytes], bytes]  # what is said after the honest part; given what an honest peer would say


class Raw:
    """A peer with a certificate that says what it wants: frames, or bytes that are none."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        sock.settimeout(PATIENCE)
        self._sock, self._sent = sock, 0
        self.heard: list[int] = []  # kinds of frames, without heartbeats

    def frame(self, kind: int, body: bytes = b"", version: int = 1, shift: int = 0, length: int | None = None) -> bytes:
        """The bytes of the next frame."""
        header = HEADER.pack(version, kind, (self._sent + shift) % 2**64, len(body) if length is None else length)
        self._sent += 1
        return header + body

    def send(self, kind: int, body: bytes = b"") -> None:
        with contextlib.suppress(OSError):  # it may have closed on us; `receive` says so
            self._sock.sendall(self.frame(kind, body))

    def receive(self) -> bytes | None:
        """The body of the next frame; None at the end."""
        while (header := self._exactly(HEADER.size)) is not None:
            _, kind, _, length = HEADER.unpack(header)
            body = self._exactly(length)
            if kind != HEARTBEAT:
                self.heard.append(kind)
                return body
        return None

    def finish(self, said: bytes) -> None:
        """Say this and no more, and listen to the end."""
        with contextlib.suppress(OSError):  # it may close on us before we are done
            self._sock.sendall(said)
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
        while self.receive() is not None:
            pass
        self._sock.close()

    def _exactly(self, count: int) -> bytes | None:
        found = bytearray()
        while len(found) < count:
            try:
                part = self._sock.recv(count - len(found))
            except TimeoutError:
                raise
            except OSError:
                return None
            if not part:
                return None
            found += part
        return bytes(found)


class Target:
    """The services, and how many streams each has been sent."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.sent = {"auditor": 0, "dealer": 0}
        self.heard: dict[str, set[int]] = {"auditor": set(), "dealer": set()}
        services.until_idle()
        self._before = {role: services.process(role).memory_info().rss for role in self.sent}

    def _raw(self, peer: str, role: str = "developer") -> Raw:
        deployment = self.services.deployment
        context = tls.client_context(deployment.identities[role])
        address, pin = deployment.addresses[peer], deployment.fingerprints[peer]
        return Raw(tls.connect(address, context, peer, pin, PATIENCE, busy=PATIENCE))

    def auditor(self, stage: str, stream: Stream) -> None:
        """As a developer; honest up to the stage."""
        with ExitStack() as stack:
            raw = self._raw("auditor")
            raw.finish(stream(raw, self._to_auditor(raw, AUDITOR_STAGES.index(stage), stack)))
        self.sent["auditor"] += 1
        self.heard["auditor"] |= set(raw.heard)

    def _to_auditor(self, raw: Raw, stage: int, stack: ExitStack) -> bytes:
        """Go to the stage and return the body that an honest developer would send there."""
        hello = honest_hello(self.services.settings, "orth", "moment")
        if stage == 0:
            return hello.encode()
        raw.send(Kind.HELLO, hello.encode())
        answer = AuditorHello.decode(raw.receive() or b"", "auditor")
        digest = ids_digest(IDS, hashlib.sha256((hello.nonce + answer.nonce).encode()).digest())
        if stage == 1:
            return digest
        raw.send(Kind.HELLO, digest)
        raw.receive()
        records = struct.pack("<20i", *range(20))
        if stage == 2:
            return records
        raw.send(Kind.RECORDS, records)
        raw.receive(), raw.receive()  # people; whether it is sent again
        if stage == 4:
            dealer = stack.enter_context(self.services.connect("dealer"))
            with contextlib.suppress(TransportError):  # it may still have had the auditor of the stream before
                CorrelationSource("developer", dealer, PLAN)
        return bytes(8 * 8 * 17)

    def dealer(self, stage: str, stream: Stream) -> None:
        """As one of the parties, beside an honest other one."""
        role, place = stage.split("'s ")
        other = "auditor" if role == "developer" else "developer"
        raw = self._raw("dealer", role)
        with self._honest(other) as honest:
            with contextlib.suppress(TransportError):  # as above
                honest.send(Kind.PLAN, PLAN.encode())
            due = PLAN.encode()
            if place != "plan":
                raw.send(Kind.PLAN, PLAN.encode())
                raw.receive()
                due = CREDIT.pack(2)
            ending = background(self._until_told, honest)
            raw.finish(stream(raw, due))
            ending.result(PATIENCE)
        self.sent["dealer"] += 1
        self.heard["dealer"] |= set(raw.heard)

    @contextmanager
    def _honest(self, role: str) -> Iterator[Connection]:
        deployment = self.services.deployment
        context = tls.client_context(deployment.identities[role])
        pin = deployment.fingerprints["dealer"]
        sock = tls.connect(deployment.addresses["dealer"], context, "dealer", pin, PATIENCE, busy=PATIENCE)
        with Connection(sock, "dealer", timeout_seconds=PATIENCE) as connection:
            yield connection

    @staticmethod
    def _until_told(honest: Connection) -> None:
        """An honest party hears of the failure, in words."""
        try:
            while True:
                honest.receive_any(tuple(Kind))
        except TransportError as error:
            assert "dealer" in str(error)  # noqa: PT017 (how many frames come before is open)

    def check(self) -> dict[str, dict[str, int]]:
        """Nothing was disclosed, every run ended with a thought-out error, and the ports serve on."""
        found: dict[str, dict[str, int]] = {}
        services = self.services
        services.until_idle()  # the last run has ended, and no peer of its stream can be taken for the visitor's
        assert Kind.OPEN not in self.heard["auditor"]
        assert self.heard["dealer"] <= {1, 2, Kind.SEED, Kind.CORRECTION, Kind.REQUEST}
        if services.ledger.exists():
            with Ledger(services.ledger, None) as ledger:
                assert ledger.releases() == []
        for role, sent in self.sent.items():
            process = services.process(role)
            assert process.is_running()
            growth = process.memory_info().rss - self._before[role]
            assert growth < MOST_MEMORY
            assert process.num_fds() <= MOST_DESCRIPTORS
            reasons = [line["reason"] for line in services.events(role) if line["event"] == "run failed"]
            assert len(reasons) >= sent
            assert all(" " in reason for reason in reasons), reasons  # not the bare type of something unexpected
            assert "Traceback" not in services.commands[role].text
            assert "unexpected" not in services.commands[role].text
            found[role] = {"streams": sent, "runs ended with an error": len(reasons), "growth in bytes": growth}
        with services.visit() as auditor:
            short_run(auditor, "moment")
        assert len(auditor.debits()) == 1
        return found


frames = st.tuples(
    st.sampled_from([*Kind, 0, 1, 2, 3, 15, 99, 65535]),
    st.sampled_from([1, 1, 1, 1, 1, 1, 0, 2, 257]),  # version
    st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1, 2**63]),  # added to the right sequence number
    st.one_of(st.none(), st.none(), st.none(), st.integers(0, 3000), st.integers(0, 2**64 - 1)),  # length; None: right
    st.one_of(st.none(), st.binary(max_size=1200)),  # body; None: an honest one
)
Drawn = Sequence[tuple[int, int, int, int | None, bytes | None]]


def fuzz(target: Target, count: int, seed: int) -> None:
    """So many frames: half drawn, half honest and mutated; two thirds of the streams to the auditor."""
    source = random.Random(seed)
    stages = [*(("auditor", stage) for stage in AUDITOR_STAGES * 2), *(("dealer", stage) for stage in DEALER_STAGES)]

    @hypothesis.settings(
        max_examples=count // 2 // FRAMES_A_STREAM,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],  # shrinking would take hours, and the service has moved on
    )
    @hypothesis.given(st.sampled_from(stages), st.lists(frames, min_size=FRAMES_A_STREAM, max_size=FRAMES_A_STREAM))
    def structured(place: tuple[str, str], drawn: Drawn) -> None:
        def stream(raw: Raw, honest: bytes) -> bytes:
            return b"".join(
                raw.frame(kind, honest if body is None else body, version, shift, length)
                for kind, version, shift, length, body in drawn
            )

        getattr(target, place[0])(place[1], stream)

    structured()
    for _ in range(count // 2 // FRAMES_A_STREAM):
        role, stage = source.choice(stages)

        def stream(raw: Raw, honest: bytes) -> bytes:
            kinds = source.choices([*Kind, HEARTBEAT], k=FRAMES_A_STREAM)
            bodies = [b"" if kind == HEARTBEAT else honest for kind in kinds]
            said = b"".join(raw.frame(kind, body) for kind, body in zip(kinds, bodies, strict=True))
            return bytes(mutate(source, bytearray(said)))

        getattr(target, role)(stage, stream)


@pytest.fixture
def target(start: Start, tmp_path: Path, identities: Deployment) -> Target:
    return Target(Services(start, tmp_path, identities))


def test_two_thousand_frames(target: Target) -> None:
    fuzz(target, 2_000, seed=1)
    target.check()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_frames(target: Target) -> None:
    began = time.monotonic()
    fuzz(target, 20_000, seed=2)
    seconds = round(time.monotonic() - began)
    found = {"frames": 20_000, "seconds": seconds, "values opened": 0, **target.check()}
    record("fuzz", "make slow PYTEST_ARGS=tests/parties/test_fuzz.py", found)


def test_strangers_that_are_no_tls(target: Target) -> None:
    source = random.Random(3)
    for role in ("auditor", "dealer"):
        for _ in range(50):
            knock(target.services.deployment.addresses[role], source.randbytes(source.randrange(400)))
    target.check()
