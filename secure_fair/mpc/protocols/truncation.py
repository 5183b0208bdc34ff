"""A shared number divided by 2^shift: one round, less than one unit off, and right on average.

x is shared with |x| < 2^62. The dealer deals a uniform m, with sharings of m >> shift and of m's highest bit:

1. each party sends its share of x + 2^62 + m, uniform to the other; both know the sum t;
2. t >> shift = (x + 2^62 >> shift) + (m >> shift) + (0 or 1) - carry 2^(64 - shift), and because x + 2^62 < 2^63 the
   addition carried exactly when m's highest bit is set and t's is not: linear in the dealt shares.

Truncating each share by itself, CrypTen's way for two parties, needs no round, but is grossly wrong with probability
|x| / 2^64 an element: about once in 2^16 when x has 48 bits.
"""

from __future__ import annotations

import torch

from secure_fair.mpc.dealing.correlations import Role, TruncationShare, logical_shift

LIMIT_BITS = 62


def masked(role: Role, share: torch.Tensor, dealt: TruncationShare) -> torch.Tensor:
    """Step 1: what this party sends."""
    return share + dealt.mask + ((1 << LIMIT_BITS) if role == "developer" else 0)


def truncated(role: Role, ours: torch.Tensor, theirs: torch.Tensor, dealt: TruncationShare, shift: int) -> torch.Tensor:
    """Step 2: this party's share of floor(x / 2^shift), or of one more, with the odds that make it right on average."""
    total = ours + theirs
    top_clear = 1 - logical_shift(total, 63)
    share = top_clear * dealt.top * (1 << (64 - shift)) - dealt.shifted
    if role == "developer":
        share = share + logical_shift(total, shift) - (1 << (LIMIT_BITS - shift))
    return share
