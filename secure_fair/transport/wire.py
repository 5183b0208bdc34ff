"""The form of a frame, and the checks of what arrives before memory is taken for it.

    header (20 bytes, big-endian): version u16, kind u16, sequence u64, length u64; then `length` bytes

Each direction counts its frames of every kind from 0. Kinds below FIRST_KIND are the transport's own.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from secure_fair.errors import FrameError

VERSION = 1
HEADER = struct.Struct("!HHQQ")
HEARTBEAT, ERROR, CLOSE = 0, 1, 2  # CLOSE: a proper end, as opposed to truncation
FIRST_KIND = 16
MAX_ERROR_BYTES = 2048
_CONTROL_LIMITS = {HEARTBEAT: 0, ERROR: MAX_ERROR_BYTES, CLOSE: 0}


class Expected(NamedTuple):
    """What a receiver waits for: one of `kinds`, of exactly `size` or at most `max_size` bytes."""

    kinds: tuple[int, ...]
    size: int | None
    max_size: int | None

    def check(self, peer: str, kind: int, length: int) -> None:
        """Raises FrameError, naming the peer."""
        names = " or ".join(f"{getattr(known, 'name', 'kind')} ({int(known)})" for known in self.kinds)
        if kind not in self.kinds:
            raise FrameError(f"{peer} sent a frame of kind {kind} where {names} is due; see its own log")
        if self.size is not None and length != self.size:
            raise FrameError(f"{peer} sent {length} bytes for {names}; it must be {self.size}")
        if self.max_size is not None and length > self.max_size:
            raise FrameError(f"{peer} sent {length} bytes for {names}; it may be {self.max_size} at most")


def parse_header(header: bytearray, peer: str, sequence: int, max_frame: int) -> tuple[int, int]:
    """Kind and length of the frame that must have this sequence number; raises FrameError, naming the peer."""
    version, kind, number, length = HEADER.unpack(header)
    if version != VERSION:
        raise FrameError(f"{peer} speaks frame version {version}, we {VERSION}; use one release on both sides")
    if number != sequence:
        raise FrameError(f"{peer} sent frame {number} where {sequence} follows: replayed, lost or reordered")
    if kind < FIRST_KIND and kind not in _CONTROL_LIMITS:
        raise FrameError(f"{peer} sent a frame of unknown kind {kind}; use one release on both sides")
    limit = _CONTROL_LIMITS.get(kind, max_frame)
    if length > limit:
        raise FrameError(f"{peer} sent a frame of kind {kind} and {length} bytes; the limit is {limit}")
    return kind, length


def printable(text: bytearray) -> str:
    """A peer's words without control characters, which could forge lines of a log or steer a terminal."""
    return "".join(character for character in text.decode(errors="replace") if character.isprintable())
