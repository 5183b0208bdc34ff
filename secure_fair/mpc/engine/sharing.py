"""Fixed point and shares. Values have `bits` fractional bits in Z_2^64; shares are CrypTen's arithmetic tensors."""

from __future__ import annotations

import torch

from secure_fair.errors import ProtocolError
from secure_fair.mpc.engine.compat import ArithmeticSharedTensor

FRACTION_BITS = 16


def encode(value: torch.Tensor, bits: int = FRACTION_BITS) -> torch.Tensor:
    """Round to multiples of 2^-bits: int64 on the CPU. Raises ProtocolError for a value the ring cannot hold."""
    scaled = torch.round(value.detach().to("cpu", torch.float64) * 2.0**bits)
    if not bool((scaled.abs() < 2.0**62).all()):  # false for NaN too
        raise ProtocolError("a value is not finite or too large for fixed point; lower the learning rate")
    return scaled.to(torch.int64)


def decode(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Ring element as float64."""
    return value.to(torch.float64) / 2.0**bits


def from_share(share: torch.Tensor) -> ArithmeticSharedTensor:
    """Wrap this party's share, as integers (precision 0): scales are kept by the protocol, which never truncates."""
    return ArithmeticSharedTensor.from_shares(share, precision=0)
