"""The keystream: AES-256 in counter mode, addressed by seed and index."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secure_fair.mpc.engine import randomness
from secure_fair.mpc.engine.randomness import SEED_BYTES, RingGenerator, fresh_seed
from tests.mpc.chi_square import uniform

SEED = bytes(range(SEED_BYTES))


@pytest.mark.parametrize("index", [0, 1, 2**63, 2**64 - 1])
def test_stream_is_aes_of_the_counter_blocks(index: int) -> None:
    """Counter block j of stream `index` is index (8 bytes) then j (8 bytes), big-endian."""
    blocks = b"".join(index.to_bytes(8, "big") + j.to_bytes(8, "big") for j in range(50))
    expected = Cipher(algorithms.AES256(SEED), modes.ECB()).encryptor().update(blocks)  # noqa: S305
    assert RingGenerator(SEED, index).ring((4, 25)).numpy().tobytes() == expected


def test_known_answer() -> None:
    """AES-256 of the zero block under the zero key, a published vector."""
    assert RingGenerator(bytes(SEED_BYTES)).ring((2,)).numpy().tobytes().hex() == "dc95c078a2408989ad48a21492842087"


def test_pieces_continue_the_stream() -> None:
    whole, parts = RingGenerator(SEED), RingGenerator(SEED)
    drawn = [parts.ring(shape).flatten() for shape in ((3,), (), (0, 7), (2, 2), (1,), (11,))]
    assert torch.equal(whole.ring((20,)), torch.cat(drawn))


def test_streams_of_other_seeds_and_indices_differ() -> None:
    streams = [RingGenerator(seed, index).ring((64,)) for seed in (SEED, SEED[::-1]) for index in (0, 1, 2)]
    for first, second in itertools.combinations(streams, 2):
        assert not bool((first == second).any())
    assert torch.equal(RingGenerator(SEED, 1).ring((64,)), streams[1])


def test_bits_stay_in_range_and_are_uniform() -> None:
    bits = RingGenerator(SEED).bits((1 << 16,), 5)
    assert bits.dtype == torch.int64
    assert uniform(bits, 32) > 1e-6
    ring = RingGenerator(SEED).ring((1 << 16,))
    assert uniform(ring.numpy().tobytes()) > 1e-6
    assert abs(np.corrcoef(ring[:-1].double(), ring[1:].double())[0, 1]) < 6 / 2**8


def test_nothing_else_in_the_protocols_draws_random_numbers() -> None:
    """`secrets` apart, which names sessions and makes seeds; tests/mpc/test_crypten.py looks at CrypTen's own draws."""
    root = Path(randomness.__file__).parents[3]
    drawing = re.compile(r"u?rand(int|n|om|perm|bits|bytes)?_?|default_rng|manual_seed|(bernoulli|normal|uniform)_?")
    for file in [*(root / "secure_fair" / "mpc").rglob("*.py"), *(root / "parties").rglob("*.py")]:
        if file == Path(randomness.__file__) or file.name == "runtime.py":  # whose subject these names are
            continue
        names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        found = {name for name in names if drawing.fullmatch(name)}
        assert not found, (file, found)


def test_seeds_are_fresh_and_secret() -> None:
    assert len({fresh_seed() for _ in range(100)}) == 100
    assert SEED.hex() not in repr(RingGenerator(SEED))
    with pytest.raises(ValueError, match="32 bytes"):
        RingGenerator(b"short")
