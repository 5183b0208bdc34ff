"""Developer and auditor agree on a run before anything secret moves: version, settings, record ids, policy."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
from secure_fair.transport.frames import Connection

MAX_RECORDS = 2**26
MAX_EPOCHS = 10_000  # the plan names every epoch
MAX_WEIGHTS = 2**24  # width x classes x groups: what a run may take of our memory before the dealer judges its plan


@dataclass(frozen=True)
class AgreedRun:
    """What the auditor knows of a run after the handshake: the hello, and the ids it is about, in order."""

    hello: DeveloperHello
    train: Positions  # positions in the agreed order of all ids


def developer_hello(
    auditor: Connection, hello: DeveloperHello, ids: Sequence[str], train: Positions
) -> tuple[AuditorHello, int]:
    """Ask for a run; returns the answer, and how many people its records show.

    Raises ProtocolError when the lists of ids differ, PeerRefusedError when the policy forbids it.
    """
    auditor.send(Kind.HELLO, hello.encode())
    answer = AuditorHello.decode(bytes(auditor.receive(Kind.HELLO, max_size=MAX_HELLO_BYTES)), auditor.peer)
    _compare_ids(auditor, ids, answer.records, hello.nonce + answer.nonce)
    auditor.send(Kind.RECORDS, memoryview(np.ascontiguousarray(train, dtype="<i4")).cast("B"))
    return answer, decode_count(auditor.receive(Kind.HELLO, size=COUNT_BYTES))


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
    _compare_ids(developer, ids, hello.records, hello.nonce + answer.nonce)
    positions = decode_positions(developer.receive(Kind.RECORDS, size=4 * hello.train))
    if len(np.unique(positions)) < len(positions) or positions.min() < 0 or positions.max() >= len(ids):
        raise ProtocolError("the developer named a record twice, or one that is not in the agreed list")
    return AgreedRun(hello, positions)


def fresh_nonce() -> str:
    return secrets.token_bytes(NONCE_BYTES).hex()


def check_settings(ours: str, theirs: str) -> None:
    """Raise ProtocolError when the settings that must agree do not."""
    if not hmac.compare_digest(ours.encode(), theirs.encode()):  # of strings it takes ASCII only
        raise ProtocolError(
            "developer and auditor have different settings; compare attributes.columns, fairness.criterion, "
            "fairness.factors, [adversary] and [privacy] of their files, and for the releases adapter and "
            "adapter-gradient [lora], model.backbone and data.image_size"
        )


def _compare_ids(peer: Connection, ids: Sequence[str], their_count: int, nonces: str) -> None:
    """Both sides hold the same ordered ids, or stop, told nothing but the counts."""
    key = hashlib.sha256(nonces.encode()).digest()
    mine = ids_digest(ids, key)
    peer.send(Kind.HELLO, mine)
    theirs = bytes(peer.receive(Kind.HELLO, size=len(mine)))
    if not hmac.compare_digest(mine, theirs):
        raise ProtocolError(
            f"our {len(ids)} record ids are not the {their_count} of the {peer.peer}; both must list the same ids "
            "(`secure-fair data check`)"
        )
