"""Peers of a private set intersection by hand: curious ones, and such as do not keep to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from secure_fair.mpc.kinds import Kind
from secure_fair.transport.frames import Connection

psi = pytest.importorskip("private_set_intersection.python", reason="the extra psi is not installed")

OURS = [f"person-{i:04d}" for i in range(0, 60, 2)]  # the developer's
THEIRS = [f"person-{i:04d}" for i in range(0, 60, 3)]
COMMON = tuple(f"person-{i:04d}" for i in range(0, 60, 6))
Raw = Callable[[Connection], None]  # a developer that says what a test wants


def points(bodies: Iterator[bytes]) -> set[bytes]:
    """What the frames hold: a request and a response differ in one field's number."""
    found: set[bytes] = set()
    for body in bodies:
        message = psi.Request() if body[:2] == b"\x08\x01" else psi.Response()
        message.ParseFromString(body)
        found.update(message.encrypted_elements)
    return found


class RawAuditor:
    """An auditor by hand: one key, whole messages."""

    def __init__(self, developer: Connection) -> None:
        self._developer = developer
        self._client = psi.client.CreateWithNewKey(True)
        self._server = psi.server.CreateFromKey(self._client.GetPrivateKeyBytes(), True)
        for start in range(0, len(THEIRS), 7):
            developer.send(Kind.ALIGN, self._client.CreateRequest(THEIRS[start : start + 7]).SerializeToString())

    def take(self) -> list[bytes]:
        """The developer's ids under both keys."""
        found: list[bytes] = []
        for _ in range(0, len(OURS), 7):
            request = psi.Request.FromString(bytes(self._developer.receive(Kind.ALIGN)))
            found += self._server.ProcessRequest(request).encrypted_elements
        return found

    def answers(self) -> list[bytes]:
        """Our ids under both keys, by the developer."""
        return [
            point
            for _ in range(0, len(THEIRS), 7)
            for point in psi.Response.FromString(bytes(self._developer.receive(Kind.ALIGN))).encrypted_elements
        ]


def message(kind: Any, elements: Sequence[bytes]) -> bytes:
    fields: dict[str, Any] = {"encrypted_elements": elements}
    if kind is psi.Request:
        fields["reveal_intersection"] = True
    found: bytes = kind(**fields).SerializeToString()
    return found


OFF_CURVE = b"\x02" + 32 * b"\xff"
NO_REVEAL = b"\x08\x00" + message(psi.Response, [OFF_CURVE] * 7).replace(b"\x0a", b"\x12")  # of the right size
BAD_REQUESTS = {
    "garbage": bytes(2 + 35 * 7),
    "other garbage": 245 * b"\xff" + b"\x00\x01",
    "too short": bytes(10),
    "too long": bytes(2 + 35 * 8),
    "off the curve": message(psi.Request, [OFF_CURVE] * 7),
    "a response": message(psi.Response, [OFF_CURVE] * 7) + b"\x10\x01",
    "sizes only": NO_REVEAL,
    "longer and shorter points": message(psi.Request, [b"\x00" * 32, b"\x00" * 34] + [OFF_CURVE] * 5),
}


def unasked(count: int) -> None:
    pytest.fail(f"the policy was asked about {count} ids of a peer that lies")


def lying(answer: Callable[[Any], bytes]) -> Raw:
    """A developer with an honest request, that answers falsely."""

    def speak(auditor: Connection) -> None:
        client = psi.client.CreateWithNewKey(True)
        server = psi.server.CreateFromKey(client.GetPrivateKeyBytes(), True)
        for start in range(0, len(OURS), 7):
            auditor.send(Kind.ALIGN, client.CreateRequest(OURS[start : start + 7]).SerializeToString())
        for _ in range(0, len(THEIRS), 7):
            asked = psi.Request.FromString(bytes(auditor.receive(Kind.ALIGN)))
            auditor.send(Kind.ALIGN, answer(server.ProcessRequest(asked)))

    return speak


def repeated(honest: Any) -> bytes:
    """One id's answer for all of them: if it is common, all would seem to be."""
    return message(psi.Response, [honest.encrypted_elements[0]] * len(honest.encrypted_elements))
