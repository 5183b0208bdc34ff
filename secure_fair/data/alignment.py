"""Record ids that both parties agree on: a keyed digest of the ordered list, and the differences of two lists."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from secure_fair.errors import DataError

_MIN_KEY = 16


def ids_digest(ids: Sequence[str], key: bytes) -> bytes:
    """HMAC-SHA-256 (32 bytes) of the ordered ids, each with its length in front.

    Keyed with a fresh session key, so that a digest seen elsewhere cannot be matched against guessed lists. Raises
    DataError when the key is shorter than 16 bytes.
    """
    if len(key) < _MIN_KEY:
        raise DataError(f"alignment: a key of {len(key)} bytes is too short; use {_MIN_KEY} random bytes or more")
    digest = hmac.new(key, digestmod=hashlib.sha256)
    for record in ids:
        encoded = record.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.digest()


def differences(ours: Sequence[str], theirs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Ids that only the first and only the second list has, each sorted."""
    first, second = set(ours), set(theirs)
    return sorted(first - second), sorted(second - first)
