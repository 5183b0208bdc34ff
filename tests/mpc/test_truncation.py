"""Truncation of shares: less than one unit off for any value below 2^62, any mask and any shift."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secure_fair.mpc.dealing.correlations import TruncationShare, deal, expand
from secure_fair.mpc.dealing.plan import StepProgram, Truncation
from secure_fair.mpc.engine.randomness import RingGenerator
from secure_fair.mpc.protocols.truncation import LIMIT_BITS, masked, truncated

LARGEST = 2**LIMIT_BITS - 1
RING = st.integers(-(2**63), 2**63 - 1)


def split(value: int, share: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two shares of a number."""
    ours, theirs = torch.tensor([value]), torch.tensor([share])
    return ours - theirs, theirs


def run(
    x: tuple[torch.Tensor, torch.Tensor], dealt: tuple[TruncationShare, TruncationShare], shift: int
) -> torch.Tensor:
    ours, theirs = masked("developer", x[0], dealt[0]), masked("auditor", x[1], dealt[1])
    return truncated("developer", ours, theirs, dealt[0], shift) + truncated("auditor", theirs, ours, dealt[1], shift)


@given(
    x=st.one_of(st.integers(-LARGEST, LARGEST), st.sampled_from([-LARGEST, -1, 0, 1, LARGEST])),
    mask=st.one_of(RING, st.sampled_from([-(2**63), -1, 0, 1, 2**62, 2**63 - 1])),
    shift=st.integers(1, 62),
    shares=st.tuples(RING, RING, RING, RING),
)
def test_less_than_one_unit_off_for_every_mask(
    x: int, mask: int, shift: int, shares: tuple[int, int, int, int]
) -> None:
    unsigned = mask % 2**64
    parts = [split(v, s) for v, s in zip((mask, unsigned >> shift, unsigned >> 63), shares[1:], strict=True)]
    dealt = (TruncationShare(*(p[0] for p in parts)), TruncationShare(*(p[1] for p in parts)))
    result = int(run(split(x, shares[0]), dealt, shift))
    assert result - (x >> shift) in (0, 1)
    assert result == x >> shift or x % 2**shift  # exact where the division is


@pytest.mark.parametrize("shift", [1, 18, 26, 32, 45, 62])
def test_dealt_masks_never_fail_and_are_right_on_average(shift: int) -> None:
    """10^5 values of every size; the mean error of a uniform rounding is 0 with deviation below 0.5 / sqrt(10^5)."""
    n = 100_000
    program = StepProgram("t", truncations={"t": Truncation((n,), shift)})
    seeds = [bytes([shift, party] * 16) for party in (1, 2)]
    correction = deal(program, *(RingGenerator(seed) for seed in seeds))
    ours = expand(program, "developer", RingGenerator(seeds[0]), correction).truncations["t"]
    theirs = expand(program, "auditor", RingGenerator(seeds[1]), None).truncations["t"]
    rng = np.random.default_rng(shift)
    x = torch.from_numpy(rng.integers(-LARGEST, LARGEST, n) >> rng.integers(0, 62, n))
    share = torch.from_numpy(rng.integers(-(2**63), 2**63 - 1, n))
    result = run((x - share, share), (ours, theirs), shift)

    assert set((result - (x >> shift)).unique().tolist()) <= {0, 1}
    fraction = (x & ((1 << shift) - 1)).double() / 2.0**shift
    mean = float(((result - (x >> shift)).double() - fraction).mean())
    assert abs(mean) < 5 * 0.5 / n**0.5
