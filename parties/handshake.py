"""Developer and auditor agree on a run before anything secret moves: version, settings, record ids, policy."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parties.intersection import auditor_intersection, developer_intersection
from parties.messages import (
    COUNT_BYTES,
    MAX_HELLO_BYTES,
    NONCE_BYTES,
    AuditorHello,
    DeveloperHello,
    Positions,
    decode_count,
    decode_positions,
)
from secure_fair.data.alignment import ids_digest
from secure_fair.errors import ProtocolError
from secure_fair.mpc.kinds import Kind
from secure_fair.sections import MAX_EPOCHS
from secure_fair.transport.frames import Connection

MAX_RECORDS = 2**26
MAX_WEIGHTS = 2**24  # width x classes x groups: what a run may take of our memory before the dealer judges its plan


@dataclass(frozen=True)
class AgreedRun:
    """What both know of a run after the handshake: the hello, and the ids it is about, in order."""

    hello: DeveloperHello  # its numbers of records are those of the agreed list
    ids: tuple[str, ...]  # the agreed order
    train: Positions  # positions in it


def developer_hello(
    auditor: Connection, hello: DeveloperHello, ids: Sequence[str], train: Positions
) -> tuple[AuditorHello, int]:
    """Ask for a run; returns the answer, and how many people its records show.

    Raises ProtocolError when the lists of ids differ, PeerRefusedError when the policy forbids it.
    """
    answer = _ask(auditor, hello)
    _compare_lists(auditor, ids, answer.records, hello.nonce + answer.nonce)
    auditor.send(Kind.RECORDS, memoryview(np.ascontiguousarray(train, dtype="<i4")).cast("B"))
    return answer, _people(auditor)


def developer_hello_psi(
    auditor: Connection, hello: DeveloperHello, ids: Sequence[str]
) -> tuple[AuditorHello, int, AgreedRun]:
    """The same where the two lists may differ: the run is about the training `ids` that the auditor has too."""
    answer = _ask(auditor, hello)
    run = _about(hello, developer_intersection(auditor, ids, answer.records))
    _compare_common(auditor, run, hello.nonce + answer.nonce)
    return answer, _people(auditor), run


def auditor_receive_hello(developer: Connection, within: float, groups: int) -> DeveloperHello:
    """What the developer asks for, within so many seconds; the caller decides by its policy before it answers.

    groups: of all attributes together.
    """
    payload = developer.receive(Kind.HELLO, max_size=MAX_HELLO_BYTES, within=within)
    hello = DeveloperHello.decode(bytes(payload), developer.peer)
    known = 0 < hello.train <= hello.records <= MAX_RECORDS and 0 < hello.epochs <= MAX_EPOCHS
    known &= hello.width * hello.classes * groups <= MAX_WEIGHTS
    if not known or min(hello.batch_size, hello.width, hello.classes, hello.checkpoint_steps) < 1:
        raise ProtocolError("the developer asked for a run whose numbers make no sense; update the developer")
    return hello


def auditor_answer(developer: Connection, hello: DeveloperHello, answer: AuditorHello, ids: Sequence[str]) -> AgreedRun:
    """Accept the run, compare ids, and take the positions of its records."""
    developer.send(Kind.HELLO, answer.encode())
    _compare_lists(developer, ids, hello.records, hello.nonce + answer.nonce)
    positions = decode_positions(developer.receive(Kind.RECORDS, size=4 * hello.train))
    if len(np.unique(positions)) < len(positions) or positions.min() < 0 or positions.max() >= len(ids):
        raise ProtocolError("the developer named a record twice, or one that is not in the agreed list")
    return AgreedRun(hello, tuple(ids), positions)


def auditor_answer_psi(
    developer: Connection,
    hello: DeveloperHello,
    answer: AuditorHello,
    ids: Sequence[str],
    decide: Callable[[int], None],
) -> AgreedRun:
    """The same where the two lists may differ; `decide` refuses a number of common ids by raising."""
    developer.send(Kind.HELLO, answer.encode())
    run = _about(hello, auditor_intersection(developer, ids, hello.train, decide))
    _compare_common(developer, run, hello.nonce + answer.nonce)
    return run


def fresh_nonce() -> str:
    return secrets.token_bytes(NONCE_BYTES).hex()


def check_settings(ours: str, theirs: str) -> None:
    """Raise ProtocolError when the settings that must agree do not."""
    if not hmac.compare_digest(ours.encode(), theirs.encode()):  # of strings it takes ASCII only
        raise ProtocolError(
            "developer and auditor have different settings; compare attributes.columns, attributes.alignment, "
            "fairness.criterion, fairness.factors, [adversary] and [privacy] of their files, and for the releases "
            "adapter, adapter-gradient and predictor [lora], model.backbone, data.image_size and sensitive.private"
        )


def _ask(auditor: Connection, hello: DeveloperHello) -> AuditorHello:
    auditor.send(Kind.HELLO, hello.encode())
    return AuditorHello.decode(bytes(auditor.receive(Kind.HELLO, max_size=MAX_HELLO_BYTES)), auditor.peer)


def _people(auditor: Connection) -> int:
    return decode_count(auditor.receive(Kind.HELLO, size=COUNT_BYTES))


def _about(hello: DeveloperHello, common: tuple[str, ...]) -> AgreedRun:
    """The run about these training records, all that the two lists have in common."""
    count = len(common)
    return AgreedRun(replace(hello, records=count, train=count), common, np.arange(count))


def _compare_lists(peer: Connection, ids: Sequence[str], their_count: int, nonces: str) -> None:
    """Both sides hold the same ordered ids, or stop, told nothing but the counts."""
    if not _equal(peer, ids, nonces) or their_count != len(ids):  # a number that is no lie bounds what follows
        raise ProtocolError(
            f"our {len(ids)} record ids are not the {their_count} of the {peer.peer}; both must list the same ids "
            '(`secure-fair data check`), or both set attributes.alignment = "psi"'
        )


def _compare_common(peer: Connection, run: AgreedRun, nonces: str) -> None:
    """Both sides have found the same common ids, or one of them has not kept to the protocol."""
    if not _equal(peer, run.ids, nonces):
        raise ProtocolError(f"the {peer.peer} found other common ids than we did; use one release on both sides")


def _equal(peer: Connection, ids: Sequence[str], nonces: str) -> bool:
    mine = ids_digest(ids, hashlib.sha256(nonces.encode()).digest())
    peer.send(Kind.HELLO, mine)
    return hmac.compare_digest(mine, bytes(peer.receive(Kind.HELLO, size=len(mine))))
