"""Expanding seeds into correlated randomness: the same code at the dealer and at both parties.

Order of drawing within one step, from each party's stream (seed, index): masks by name, then shares of products,
sines, truncations and counts by name. The auditor's shares all come from its seed; the developer's are its share of
the phases, the truncation masks and its masks of counts from its seed, and everything else is a correction the dealer
sends it: developer's share = value - auditor's share. So the dealer sends nothing to the auditor but its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from secure_fair.mpc.dealing.plan import OPERATIONS, Sine, StepProgram, product_shape
from secure_fair.mpc.engine.randomness import RingGenerator

Role = Literal["developer", "auditor"]


@dataclass(repr=False)
class SineShare:
    """This party's share of a phase, and of the weighted sines and cosines [terms, *shape]."""

    phase: torch.Tensor
    sines: torch.Tensor
    cosines: torch.Tensor


@dataclass(repr=False)
class TruncationShare:
    """This party's share of r, of r >> shift and of r's highest bit."""

    mask: torch.Tensor
    shifted: torch.Tensor
    top: torch.Tensor


@dataclass(repr=False)
class CountShare:
    """This party's mask (A or B), and its share of A^T B; all on the 32-bit ring."""

    mask: torch.Tensor  # int32 [rows, left or right]
    product: torch.Tensor  # int32 [left, right]


@dataclass(repr=False)
class StepShares:
    """One party's part of a step's randomness."""

    masks: dict[str, torch.Tensor]
    products: dict[str, torch.Tensor]
    sines: dict[str, SineShare]
    truncations: dict[str, TruncationShare]
    counts: dict[str, CountShare]


def expand(program: StepProgram, role: Role, generator: RingGenerator, correction: torch.Tensor | None) -> StepShares:
    """A party's part, from its stream; the developer also needs the dealer's correction (flat int64)."""
    masks = {name: generator.ring(m.shape) for name, m in sorted(program.masks.items()) if m.owner == role}
    source = generator if correction is None else _Reader(correction)
    products = {}
    for name, product in sorted(program.products.items()):
        left, right = program.masks[product.left], program.masks[product.right]
        products[name] = source.ring(product_shape(left.shape, right.shape, product.operation))
    sines = {}
    for name, sine in sorted(program.sines.items()):
        phase = generator.bits(sine.shape, sine.phase_bits)
        table = (len(sine.coefficients), *sine.shape)
        sines[name] = SineShare(phase, source.ring(table), source.ring(table))
    truncations = {}
    for name, truncation in sorted(program.truncations.items()):
        mask = generator.ring(truncation.shape)
        truncations[name] = TruncationShare(mask, source.ring(truncation.shape), source.ring(truncation.shape))
    counts = {}
    for name, count in sorted(program.counts.items()):
        mask = generator.words((count.rows, count.left if role == "developer" else count.right))
        counts[name] = CountShare(mask, source.ring((count.left, count.right)).to(torch.int32))
    if isinstance(source, _Reader):
        source.finish()
    return StepShares(masks, products, sines, truncations, counts)


def deal(program: StepProgram, developer: RingGenerator, auditor: RingGenerator) -> torch.Tensor:
    """The correction that turns the developer's randomness into shares; flat int64, sent to the developer only."""
    masks: dict[str, torch.Tensor] = {}
    for name, mask in sorted(program.masks.items()):
        masks[name] = (developer if mask.owner == "developer" else auditor).ring(mask.shape)
    parts: list[torch.Tensor] = []
    for _, product in sorted(program.products.items()):
        value = OPERATIONS[product.operation](masks[product.left], masks[product.right])
        parts.append(value - auditor.ring(value.shape))
    for _, sine in sorted(program.sines.items()):
        phase = (developer.bits(sine.shape, sine.phase_bits) + auditor.bits(sine.shape, sine.phase_bits)) & (
            (1 << sine.phase_bits) - 1
        )
        parts.extend(value - auditor.ring(value.shape) for value in weighted_waves(sine, phase))
    for _, truncation in sorted(program.truncations.items()):
        r = developer.ring(truncation.shape) + auditor.ring(truncation.shape)
        shifted = logical_shift(r, truncation.shift)
        parts.append(shifted - auditor.ring(r.shape))
        parts.append(logical_shift(r, 63) - auditor.ring(r.shape))
    for _, count in sorted(program.counts.items()):
        left, right = developer.words((count.rows, count.left)), auditor.words((count.rows, count.right))
        parts.append(transposed_product(left, right).to(torch.int64) - auditor.ring((count.left, count.right)))
    return torch.cat([part.reshape(-1) for part in parts]) if parts else torch.empty(0, dtype=torch.int64)


def weighted_waves(sine: Sine, phase: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """c_k sin(k w r) and c_k cos(k w r) in fixed point, [terms, *shape]; r in [0, 2^phase_bits) is one full period."""
    angle = phase.numpy().astype(np.float64) * (2 * np.pi / (1 << sine.phase_bits))
    order = np.arange(1, len(sine.coefficients) + 1).reshape(-1, *[1] * angle.ndim)
    weight = np.asarray(sine.coefficients).reshape(order.shape) * (1 << sine.value_bits)
    waves = (np.sin(order * angle) * weight, np.cos(order * angle) * weight)
    return torch.from_numpy(np.rint(waves[0]).astype(np.int64)), torch.from_numpy(np.rint(waves[1]).astype(np.int64))


def transposed_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left^T right mod 2^32 of int32 matrices; numpy's product wraps, and torch has none that is fast."""
    return torch.from_numpy(left.numpy().T @ right.numpy())


def logical_shift(value: torch.Tensor, shift: int) -> torch.Tensor:
    """Shift right as an unsigned 64-bit number (torch's >> keeps the sign)."""
    return (value >> shift) & ((1 << (64 - shift)) - 1)


class _Reader:
    """Reads a correction in the order in which `deal` wrote it."""

    def __init__(self, flat: torch.Tensor) -> None:
        self._flat = flat
        self._offset = 0

    def ring(self, shape: tuple[int, ...]) -> torch.Tensor:
        size = int(np.prod(shape, dtype=np.int64))
        if self._offset + size > self._flat.numel():
            raise ValueError("the dealer's correction is too short")
        part = self._flat[self._offset : self._offset + size].reshape(shape)
        self._offset += size
        return part

    def finish(self) -> None:
        if self._offset != self._flat.numel():
            raise ValueError("the dealer's correction is too long")


def correction_elements(program: StepProgram) -> int:
    """How many ring elements `deal` sends for one step; what the developer expects, exactly."""
    total = 0
    for product in program.products.values():
        left, right = program.masks[product.left], program.masks[product.right]
        total += int(np.prod(product_shape(left.shape, right.shape, product.operation), dtype=np.int64))
    for sine in program.sines.values():
        total += 2 * len(sine.coefficients) * int(np.prod(sine.shape, dtype=np.int64))
    for truncation in program.truncations.values():
        total += 2 * int(np.prod(truncation.shape, dtype=np.int64))
    for count in program.counts.values():
        total += count.left * count.right
    return total
