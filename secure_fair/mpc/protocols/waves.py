"""Sine and cosine of public phases in integer arithmetic.

Both parties multiply shares with these numbers, and a share is a uniform 64-bit number: if two machines' libm
differed in the last bit of one value, the result would be noise. So nothing here is floating point.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

WAVE_BITS = 30  # fractional bits of the result
_GUARD = 40  # further bits while the tables are made
_LOW_BITS = 11
Integers = npt.NDArray[np.int64]


def waves(phase: Integers, phase_bits: int) -> tuple[Integers, Integers]:
    """sin and cos of 2 pi phase / 2^phase_bits, int64 with WAVE_BITS fractional bits, error below 2 units."""
    high, low = _tables(phase_bits)
    turn = phase & ((1 << phase_bits) - 1)
    coarse, fine = turn >> _LOW_BITS, turn & ((1 << _LOW_BITS) - 1)
    half = 1 << (WAVE_BITS - 1)
    sine = (high[0][coarse] * low[1][fine] + high[1][coarse] * low[0][fine] + half) >> WAVE_BITS
    cosine = (high[1][coarse] * low[1][fine] - high[0][coarse] * low[0][fine] + half) >> WAVE_BITS
    return sine, cosine


@functools.cache
def _tables(phase_bits: int) -> tuple[Integers, Integers]:
    """[2, entries] sines and cosines of the phase's high bits, and of its low bits."""
    coarse = _table(1 << (phase_bits - _LOW_BITS), phase_bits - _LOW_BITS)
    fine = _table(1 << _LOW_BITS, phase_bits)
    return coarse, fine


def _table(entries: int, turn_bits: int) -> Integers:
    """sin and cos of 2 pi i / 2^turn_bits for i < entries, by rotating with one step computed to 70 bits."""
    bits = WAVE_BITS + _GUARD
    one = 1 << bits
    step = (2 * _pi(bits) + (1 << (turn_bits - 1))) >> turn_bits
    step_sine, step_cosine = _sine_cosine(step, bits)
    sine, cosine, rows = 0, one, np.empty((2, entries), dtype=np.int64)
    for i in range(entries):
        rows[0, i] = (sine + (1 << (_GUARD - 1))) >> _GUARD
        rows[1, i] = (cosine + (1 << (_GUARD - 1))) >> _GUARD
        sine, cosine = (
            (sine * step_cosine + cosine * step_sine) >> bits,
            (cosine * step_cosine - sine * step_sine) >> bits,
        )
    return rows


def _sine_cosine(angle: int, bits: int) -> tuple[int, int]:
    """Taylor series of a small angle in fixed point."""
    sine = cosine = 0
    term, order = 1 << bits, 0
    while term:
        sign = -1 if order % 4 in (2, 3) else 1
        if order % 2:
            sine += sign * term
        else:
            cosine += sign * term
        order += 1
        term = ((term * angle) >> bits) // order
    return sine, cosine


def _pi(bits: int) -> int:
    """pi in fixed point, by Machin's formula."""
    guard = bits + 16

    def arctan_inverse(x: int) -> int:
        total = power = (1 << guard) // x
        n, sign = 3, -1
        while power:
            power //= x * x
            total += sign * (power // n)
            n, sign = n + 2, -sign
        return total

    return (4 * (4 * arctan_inverse(5) - arctan_inverse(239))) >> 16
