"""Private set intersection over TLS: what both sides find, what crosses the wire, and peers that do not keep to it."""

from __future__ import annotations

import contextlib
import hashlib
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from parties import intersection
from parties.intersection import auditor_intersection, developer_intersection, require_package
from secure_fair.errors import ProtocolError, RefusedError, SettingsError, TransportError
from secure_fair.mpc.kinds import Kind
from secure_fair.transport.frames import Connection
from tests.parties.raw_intersection import (
    BAD_REQUESTS,
    COMMON,
    OFF_CURVE,
    OURS,
    THEIRS,
    RawAuditor,
    lying,
    message,
    points,
    psi,
    repeated,
    unasked,
)
from tests.transport.channels import PATIENCE, Pki, background
from tests.transport.test_fuzz import mutate


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several frames each way, the last one short."""
    monkeypatch.setattr(intersection, "BLOCK", 7)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, bytes]]:
    """(to whom, kind, body) of each frame, as it is handed to TLS."""
    frames: list[tuple[str, int, bytes]] = []
    send = Connection.send

    def recording(self: Connection, kind: int, *buffers: bytes | bytearray | memoryview) -> None:
        frames.append((self.peer, kind, b"".join(bytes(buffer) for buffer in buffers)))
        send(self, kind, *buffers)

    monkeypatch.setattr(Connection, "send", recording)
    return frames


def both(
    pki: Pki, ours: Sequence[str], theirs: Sequence[str], decide: Callable[[int], None] = lambda _: None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What developer and auditor find; what the auditor raises ends the developer's wait too."""
    with pki.pair() as (auditor, developer):
        mine = background(developer_intersection, auditor, ours, len(theirs))
        try:
            found = auditor_intersection(developer, theirs, len(ours), decide)
        except Exception as error:
            developer.fail(str(error))
            with pytest.raises((ProtocolError, TransportError)):
                mine.result(PATIENCE)
            raise
        return mine.result(PATIENCE), found


@pytest.mark.parametrize(
    ("ours", "theirs", "common"),
    [
        (OURS, THEIRS, COMMON),
        (OURS[::-1], THEIRS, COMMON),
        (OURS, OURS, tuple(OURS)),
        (OURS, ["nobody"], ()),
        (["ä", "\u4e2d\u6587", "x" * 500], ["x" * 500, "\u4e2d\u6587", "a"], ("x" * 500, "\u4e2d\u6587")),
    ],
)
def test_both_find_what_is_common_in_one_order(
    pki: Pki, ours: list[str], theirs: list[str], common: tuple[str, ...]
) -> None:
    counts: list[int] = []
    assert both(pki, ours, theirs, counts.append) == (common, common)
    assert counts == [len(common)]


def test_what_crosses_the_wire_are_points_and_no_ids(pki: Pki, sent: list[tuple[str, int, bytes]]) -> None:
    both(pki, OURS, THEIRS)
    n, m = len(OURS), len(THEIRS)

    def sizes(count: int, head: int) -> list[int]:
        return [head + 35 * min(7, count - start) for start in range(0, count, 7)]

    for peer, own, other in (("auditor", n, m), ("developer", m, n)):
        assert [(kind, len(body)) for to, kind, body in sent if to == peer] == [
            (Kind.ALIGN, size) for size in sizes(own, 2) + sizes(other, 0)
        ]
    wire = b"".join(body for _, _, body in sent)
    for record in {*OURS, *THEIRS}:
        hashes = [hashlib.new(name, record.encode()) for name in ("sha256", "sha512", "sha1", "md5", "blake2b")]
        for plain in (record.encode(), *(h.digest()[:16] for h in hashes), *(h.hexdigest().encode() for h in hashes)):
            assert plain not in wire


def test_another_run_shows_other_points(pki: Pki, sent: list[tuple[str, int, bytes]]) -> None:
    """Keys are fresh, so that runs cannot be joined by what a party has kept of the points."""
    both(pki, OURS, THEIRS)
    first = points(body for _, _, body in sent)
    sent.clear()
    both(pki, OURS, THEIRS)
    assert not first & points(body for _, _, body in sent)


def test_the_order_of_the_points_says_nothing_of_the_other_ids(pki: Pki) -> None:
    """A curious auditor: at which places of the developer's request are the common ids?"""
    places: list[int] = []

    def curious(developer: Connection) -> None:
        raw = RawAuditor(developer)
        raised, answered = raw.take(), raw.answers()
        places.extend(raised.index(point) for _, point in sorted(zip(THEIRS, answered, strict=True)) if point in raised)

    with pki.pair() as (auditor, developer):
        mine = background(developer_intersection, auditor, OURS, len(THEIRS))
        curious(developer)
        developer.fail("enough")
        with pytest.raises(TransportError):
            mine.result(PATIENCE)
    assert len(places) == len(COMMON)
    assert places != sorted(places)  # chance: 1 of 10!


def test_what_the_auditor_refuses_tells_the_developer_nothing(pki: Pki, sent: list[tuple[str, int, bytes]]) -> None:
    def refuse(count: int) -> None:
        raise RefusedError("too few")

    with pytest.raises(RefusedError, match="too few"):
        both(pki, OURS, THEIRS, refuse)
    offered = [body for to, kind, body in sent if (to, kind) == ("developer", Kind.ALIGN)]
    assert len(points(iter(offered))) == len(THEIRS)  # its own under its own key, and no answer


@pytest.mark.parametrize(("ours", "theirs"), [([], THEIRS), (OURS, []), (["x"] * (2**22 + 1), THEIRS)])
def test_numbers_out_of_bounds(pki: Pki, ours: list[str], theirs: list[str]) -> None:
    with pki.pair() as (auditor, _), pytest.raises(ProtocolError, match="of 1 to 4194304 each"):
        developer_intersection(auditor, ours, len(theirs))


def test_a_list_that_names_a_record_twice(pki: Pki) -> None:
    with pytest.raises(ProtocolError, match="the developer sent an id twice"):
        both(pki, [*OURS, OURS[0]], THEIRS)


@pytest.mark.parametrize("body", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_requests_that_are_none(pki: Pki, body: bytes) -> None:
    with pki.pair() as (auditor, developer):
        auditor.send(Kind.ALIGN, body)
        with pytest.raises((ProtocolError, TransportError), match="developer") as caught:
            auditor_intersection(developer, THEIRS, len(OURS), unasked)
        assert "ECGroup" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (repeated, "answered two ids with one point"),
        (lambda honest: bytes(len(honest.SerializeToString())), "no list of points"),
        (lambda honest: honest.SerializeToString()[:-35], "sent 210 bytes .* must be 245"),
        (lambda honest: message(psi.Response, [b"\x00" * 32, b"\x00" * 34] + [OFF_CURVE] * 5), "no list of points"),
    ],
)
def test_false_answers(pki: Pki, answer: Callable[[Any], bytes], reason: str) -> None:
    with pki.pair() as (auditor, developer):
        peer = background(lying(answer), auditor)
        with pytest.raises((ProtocolError, TransportError), match=reason):
            auditor_intersection(developer, THEIRS, len(OURS), unasked)
        developer.fail("enough")
        with contextlib.suppress(TransportError):
            peer.result(PATIENCE)


def test_answers_in_another_order_mislead_and_pass_on_no_id(pki: Pki, sent: list[tuple[str, int, bytes]]) -> None:
    """What cannot be seen here is seen when the digests of the two results are compared."""

    def swapped(honest: Any) -> bytes:
        return message(psi.Response, list(honest.encrypted_elements)[::-1])

    with pki.pair() as (auditor, developer):
        peer = background(lying(swapped), auditor)
        found = auditor_intersection(developer, THEIRS, len(OURS), lambda _: None)
        peer.result(PATIENCE)
    assert len(found) == len(COMMON)
    assert set(found) <= set(THEIRS)
    wire = b"".join(body for _, _, body in sent)
    assert not [record for record in THEIRS if record.encode() in wire]


def test_two_hundred_mutated_conversations(pki: Pki) -> None:
    """Of an honest developer's frames; what they lead to is an error in words, or the right result."""
    source = random.Random(4)
    honest: list[bytes] = []
    with pki.pair() as (auditor, developer):
        raw = background(RawAuditor, developer)
        mine = background(developer_intersection, auditor, OURS, len(THEIRS))
        raw.result(PATIENCE)
        honest = [bytes(developer.receive(Kind.ALIGN)) for _ in range(0, len(OURS), 7)]
        developer.fail("enough")
        with pytest.raises(TransportError):
            mine.result(PATIENCE)
    for _ in range(200):
        with pki.pair() as (auditor, developer):
            for body in honest:
                said = mutate(source, bytearray(body)) if source.random() < 0.5 else body
                auditor.send(Kind.ALIGN, bytes(said))
            auditor.close()
            with pytest.raises((ProtocolError, TransportError), match="developer"):
                auditor_intersection(developer, THEIRS, len(OURS), unasked)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "private_set_intersection", None)
    with pytest.raises(SettingsError, match=r"pip install secure-fair\[psi\]"):
        require_package()
