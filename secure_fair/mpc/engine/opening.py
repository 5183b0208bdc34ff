"""The only door: every value that a party learns from a secure computation passes through this module.

A value opens to one party (never to everyone, CrypTen's default); what the developer learns is recorded before it is
returned. The auditor learns nothing of a training. Of an exact audit it learns counts under the developer's noise,
which is what it decides on which counts to open.
"""

from __future__ import annotations

import torch

from secure_fair.mpc.engine.compat import ArithmeticSharedTensor
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind


def open_to_developer(party: Party, name: str, shared: ArithmeticSharedTensor, bits: int = 0) -> torch.Tensor | None:
    """Open a shared ring tensor with `bits` fractional bits to the developer; the auditor gets None.

    One message, auditor to developer: the auditor's share (8 bytes an element). The share is uniform to the developer
    apart from the value itself, because the auditor's part of every product is fresh randomness of the dealer's.
    """
    if not party.is_developer:
        party.send(Kind.OPEN, shared.share)
        return None
    (theirs,) = party.receive(Kind.OPEN, shared.share.shape)
    value: torch.Tensor = shared.share + theirs
    if party.recorder is not None:
        party.recorder(name, value, 2.0**-bits)
    return value


def open_words(party: Party, name: str, share: torch.Tensor, bits: int = 0) -> torch.Tensor | None:
    """The same for int32 shares in Z_2^32 of numbers that 32 bits hold: one message, 4 bytes an element."""
    if not party.is_developer:
        party.send(Kind.OPEN, share)
        return None
    (theirs,) = party.receive(Kind.OPEN, share.shape, dtype=torch.int32)
    value = share + theirs
    if party.recorder is not None:
        party.recorder(name, value, 2.0**-bits)
    return value


def open_to_auditor(party: Party, share: torch.Tensor) -> torch.Tensor | None:
    """Open int32 shares to the auditor; the developer has added noise of its own to its share, and gets None."""
    if party.is_developer:
        party.send(Kind.OPEN, share)
        return None
    (theirs,) = party.receive(Kind.OPEN, share.shape, dtype=torch.int32)
    return share + theirs
