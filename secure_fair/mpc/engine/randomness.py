"""Keystreams for masks, shares and dealt values: AES-256 in counter mode, seeded by the operating system.

CrypTen's own source is a Mersenne Twister with a 64-bit seed, whose state can be recovered from its output;
`runtime.install` puts `RingGenerator` in its place everywhere CrypTen draws ring elements.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

SEED_BYTES = 32
RING_BYTES = 8
WORD_BYTES = 4


def fresh_seed() -> bytes:
    """256 bits from the operating system."""
    return secrets.token_bytes(SEED_BYTES)


class RingGenerator:
    """A keystream of uniform elements of Z_2^64.

    The pair (seed, index) addresses one stream: the index is the upper half of the counter block, so streams of
    one seed never overlap (each would have to exceed 2^64 blocks). Two parties that hold one seed draw the same.
    """

    def __init__(self, seed: bytes, index: int = 0) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        nonce = index.to_bytes(8, "big") + bytes(8)
        self._cipher: CipherContext = Cipher(algorithms.AES256(seed), modes.CTR(nonce)).encryptor()

    def __repr__(self) -> str:
        return "RingGenerator(<secret>)"

    def ring(self, shape: Sequence[int]) -> torch.Tensor:
        """Uniform int64 tensor of the given shape."""
        return torch.from_numpy(self._stream(math.prod(shape) * RING_BYTES).view(np.int64).reshape(tuple(shape)))

    def words(self, shape: Sequence[int]) -> torch.Tensor:
        """Uniform int32 tensor of the given shape: elements of Z_2^32."""
        return torch.from_numpy(self._stream(math.prod(shape) * WORD_BYTES).view(np.int32).reshape(tuple(shape)))

    def bits(self, shape: Sequence[int], width: int) -> torch.Tensor:
        """Uniform int64 tensor with values in [0, 2^width), width < 64."""
        return self.ring(shape) & ((1 << width) - 1)

    def _stream(self, size: int) -> np.ndarray:
        buffer = np.zeros(size, dtype=np.uint8)
        if size:
            self._cipher.update_into(buffer.data, buffer.data)  # in place: zeros become the keystream
        return buffer
