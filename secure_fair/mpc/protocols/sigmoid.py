"""Odd functions of an adversary's logit in one round, by a Fourier sine series: sigmoid, and ENT's slope.

With an odd extension over a period of 2L, sigmoid(x) - 1/2 = sum_k c_k sin(k pi x / L). The dealer deals a phase r and
sharings of c_k sin(k pi r / L) and c_k cos(k pi r / L):

1. each party shifts its share of x down to 16 fractional bits, subtracts its share of r, reduces modulo the period
   (which divides the ring, so a wrapped share does no harm and the shift is off by one unit at most), sends 3 bytes;
2. both know o = x - r, uniform whatever x is; sin(k pi (o + r) / L) is linear in the dealt shares: no more messages.

L = 64 and 96 terms fit sigmoid to 7e-7 on |x| <= 56. Beyond L the series folds back, so the range must hold by
construction: the adversary's weight decay lambda >= 0.036 gives |x| <= 2 / lambda <= 56 (`adversary.py`). Another odd
function, x p (1 - p) with p = sigmoid(x), is another set of c_k.
"""

from __future__ import annotations

import functools
from enum import StrEnum

import numpy as np
import torch

from secure_fair.mpc.dealing.correlations import SineShare, logical_shift
from secure_fair.mpc.dealing.plan import Sine
from secure_fair.mpc.engine.sharing import FRACTION_BITS
from secure_fair.mpc.protocols.waves import WAVE_BITS, waves

HALF_PERIOD = 64
RANGE = 56.0
TERMS = 96
PHASE_BITS = FRACTION_BITS + 7  # the period 2 L = 2^7
VALUE_BITS = 18  # of the dealt sines; 96 roundings of 2^-19 add up to about 1e-5
PHASE_BYTES = 3
_PHASE_MASK = (1 << PHASE_BITS) - 1


class Odd(StrEnum):
    """The odd functions that are fitted."""

    SIGMOID = "sigmoid"  # sigmoid(x) - 1/2
    ENTROPY = "entropy slope"  # x p (1 - p)


@functools.cache
def coefficients(function: Odd = Odd.SIGMOID) -> tuple[float, ...]:
    """c_k by least squares on |x| <= RANGE + 1; between there and L the extension is free to be smooth."""
    grid = np.linspace(0, RANGE + 1, 16001)
    basis = np.sin(np.outer(grid, np.arange(1, TERMS + 1)) * (np.pi / HALF_PERIOD))
    p = 1 / (1 + np.exp(-grid))
    fitted = np.linalg.lstsq(basis, p - 0.5 if function is Odd.SIGMOID else grid * p * (1 - p), rcond=1e-6)[0]
    return tuple(round(float(c), 12) for c in fitted)


def sine_tuple(shape: tuple[int, ...], function: Odd = Odd.SIGMOID) -> Sine:
    """What the dealer deals for the function of a tensor of this shape."""
    return Sine(shape, PHASE_BITS, VALUE_BITS, coefficients(function))


def masked_phase(share: torch.Tensor, bits: int, dealt: SineShare) -> torch.Tensor:
    """Step 1: this party's share of x - r as bytes, uint8 [*shape, 3]; `share` has `bits` fractional bits."""
    phase = logical_shift(share, bits - FRACTION_BITS) if bits > FRACTION_BITS else share
    masked = (phase - dealt.phase) & _PHASE_MASK
    return torch.stack([masked >> 8 * place & 0xFF for place in range(PHASE_BYTES)], dim=-1).to(torch.uint8)


def opened_phase(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """x - r modulo the period, int64, from the bytes of both parties; uniform whatever x is."""
    total = ours.to(torch.int64) + theirs.to(torch.int64)  # byte by byte, carries follow
    return (total * torch.tensor([1 << 8 * place for place in range(PHASE_BYTES)])).sum(-1) & _PHASE_MASK


def scaled(ours: torch.Tensor, theirs: torch.Tensor, dealt: SineShare, factor: float, bits: int) -> torch.Tensor:
    """Step 2: this party's share of factor * f(x), with `bits` fractional bits, from both masked phases of f.

    A public factor (a learning rate) costs nothing here, while a multiplication of the result would need another
    truncation. factor * 2^(bits - VALUE_BITS), the scale at which the weights of the dealt values are rounded, must be
    below 2^32, and above 2^13 for an error below 1e-4 of the factor.
    """
    opened = opened_phase(ours, theirs)
    order = np.arange(1, TERMS + 1).reshape(-1, *[1] * opened.ndim)
    sine, cosine = waves(order * opened.numpy(), PHASE_BITS)  # [terms, *shape]
    scale_bits = 16
    scale = round(factor * 2.0 ** (bits - VALUE_BITS + scale_bits))
    if scale.bit_length() > 62 - WAVE_BITS:  # the wave's own bits and its sign
        scale_bits, scale = 0, round(factor * 2.0 ** (bits - VALUE_BITS))
    half, shift = 1 << (WAVE_BITS + scale_bits - 1), WAVE_BITS + scale_bits
    sine_weight = torch.from_numpy((sine * scale + half) >> shift)
    cosine_weight = torch.from_numpy((cosine * scale + half) >> shift)
    return (sine_weight * dealt.cosines + cosine_weight * dealt.sines).sum(0)
