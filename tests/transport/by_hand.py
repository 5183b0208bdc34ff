"""Frames made by hand, and many of them."""

from __future__ import annotations

from pathlib import Path

from secure_fair.transport.frames import MEBIBYTE, Connection
from secure_fair.transport.wire import (
    FIRST_KIND,
    HEADER,
    VERSION,
)

A, B = FIRST_KIND, FIRST_KIND + 1


def send_many(connection: Connection, count: int, body: bytes) -> None:
    for _ in range(count):
        connection.send(A, body)


def socket_buffers() -> int:
    """What the two ends of a TCP connection of this machine may hold at most, in bytes."""
    if not Path("/proc/sys/net/ipv4").exists():
        return 64 * MEBIBYTE  # macOS allows for far less
    return sum(int(Path(f"/proc/sys/net/ipv4/tcp_{end}mem").read_text().split()[2]) for end in "rw")


def frame(
    sequence: int, body: bytes = b"", kind: int = A, *, version: int = VERSION, length: int | None = None
) -> bytes:
    return HEADER.pack(version, kind, sequence, len(body) if length is None else length) + body
