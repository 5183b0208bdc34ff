"""Private set intersection: both parties learn which record ids they have in common, and of the others the number.

Diffie-Hellman on the curve P-256 (Meadows 1986; Huberman, Franklin, Hogg 1999), with the points, the hashing to the
curve and the messages of OpenMined's package. H(x)^a is an id x as a point, raised to the auditor's key of this run.

1. both send their own ids as points, H(y)^b and H(x)^a, in an order that chance decides; ALIGN
2. the developer answers H(x)^ab for the auditor's points, in their order; ALIGN. The auditor makes H(y)^ab of the
   developer's: what is in both is the intersection, and its policy decides on the number before anything leaves
3. the auditor answers H(y)^ab for the developer's points; ALIGN. Now the developer knows the intersection too

Secure against semi-honest parties, if decisional Diffie-Hellman is hard on P-256 and the hash is a random oracle.
Nobody is told the result by the other, so a party that answers falsely misleads and learns no id; the two results are
compared by digest. What nothing here prevents: a party may put ids that it has guessed into its set.

Whole points (the package's `RAW`, 35 bytes an id) and not its compressed sets (`GCS`, Bloom filter), which have false
positives: one would name a person to a party that does not know them. 160,000 ids are 5.6 MB, in frames of `BLOCK`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from secure_fair.errors import ProtocolError, SettingsError
from secure_fair.mpc.kinds import Kind
from secure_fair.transport.frames import Connection

MAX_IDS = 2**22  # of one party: 147 MB of points, which the peer's queue of frames has to hold
BLOCK = 4096  # ids a frame: half a second of work, after which a lost peer or SIGTERM is noticed
POINT_BYTES = 33  # compressed
_ITEM = POINT_BYTES + 2  # with protobuf's tag and length
_REQUEST = 2  # bytes of a request beside its points


def require_package() -> Any:
    """OpenMined's package. Raises SettingsError when the extra is not installed."""
    try:
        from private_set_intersection import python
    except ImportError:
        raise SettingsError(
            'attributes.alignment = "psi" needs OpenMined\'s package: pip install secure-fair[psi]'
        ) from None
    return python


def developer_intersection(auditor: Connection, ids: Sequence[str], theirs: int) -> tuple[str, ...]:
    """The ids that the auditor has too, sorted; `theirs`: how many it has. Raises ProtocolError."""
    side = _Side(auditor, ids, theirs)
    side.offer()
    for answer in side.answers():
        auditor.send(Kind.ALIGN, answer)
    return side.common()


def auditor_intersection(
    developer: Connection, ids: Sequence[str], theirs: int, decide: Callable[[int], None]
) -> tuple[str, ...]:
    """The same for the auditor; `decide` gets the number of common ids, and raises to refuse it.

    The auditor is the first to know, so that its policy speaks before the developer has learned anything.
    """
    side = _Side(developer, ids, theirs)
    side.offer()
    answers = list(side.answers())
    common = side.common()
    decide(len(common))
    for answer in answers:
        developer.send(Kind.ALIGN, answer)
    return common


class _Side:
    """One party's part, under a key that lives as long as this object."""

    def __init__(self, peer: Connection, ids: Sequence[str], theirs: int) -> None:
        psi = require_package()
        if not (0 < len(ids) <= MAX_IDS and 0 < theirs <= MAX_IDS):
            raise ProtocolError(
                f"{len(ids)} ids here and {theirs} at the {peer.peer}: a private intersection is of 1 to {MAX_IDS} each"
            )
        self._peer, self._theirs = peer, theirs
        # The package has a class for each role, and here a party has both. True: the order of points is kept, so
        # that their owner learns which ids are common and not only how many.
        self._blind = psi.client.CreateWithNewKey(True)
        self._raise = psi.server.CreateFromKey(self._blind.GetPrivateKeyBytes(), True)
        self._request, self._response = psi.Request, psi.Response
        # In sorted order the places of the common ids would tell how many of ours lie between them.
        self._ids = list(ids)
        secrets.SystemRandom().shuffle(self._ids)
        self._both: set[bytes] = set()  # the peer's ids under both keys

    def offer(self) -> None:
        """Send our ids under our key."""
        remaining = iter(self._ids)
        for count in _blocks(len(self._ids)):
            self._peer.send(Kind.ALIGN, self._blind.CreateRequest(list(islice(remaining, count))).SerializeToString())

    def answers(self) -> Iterator[bytes]:
        """The peer's ids under both keys, as they arrive: what answers each frame."""
        for count in _blocks(self._theirs):
            request = self._received(self._request(), _REQUEST + _ITEM * count, count)
            try:
                response = self._raise.ProcessRequest(request)
            except RuntimeError:  # the package checks that a point is on the curve; its words are not for others
                raise self._malformed() from None
            self._both.update(response.encrypted_elements)
            yield response.SerializeToString()
        if len(self._both) < self._theirs:
            raise ProtocolError(f"the {self._peer.peer} sent an id twice; list each record once")

    def common(self) -> tuple[str, ...]:
        """Our ids that the peer has too, by the peer's answers to `offer`, sorted."""
        found: list[bytes] = []
        for count in _blocks(len(self._ids)):
            found += self._received(self._response(), _ITEM * count, count).encrypted_elements
        if len(set(found)) < len(found):  # else one common id, answered everywhere, would pass any policy
            raise ProtocolError(f"the {self._peer.peer} answered two ids with one point; use one release on both sides")
        return tuple(sorted(own for own, point in zip(self._ids, found, strict=True) if point in self._both))

    def _received(self, message: Any, size: int, count: int) -> Any:
        """The next frame of exactly this size, as a message with this many points."""
        from google.protobuf.message import DecodeError

        try:
            message.ParseFromString(bytes(self._peer.receive(Kind.ALIGN, size=size)))
        except DecodeError:
            raise self._malformed() from None
        if list(map(len, message.encrypted_elements)) != [POINT_BYTES] * count:
            raise self._malformed()
        return message

    def _malformed(self) -> ProtocolError:
        return ProtocolError(f"the {self._peer.peer} sent what is no list of points; use one release on both sides")


def _blocks(count: int) -> Iterator[int]:
    """Ids of each frame."""
    for start in range(0, count, BLOCK):
        yield min(BLOCK, count - start)
