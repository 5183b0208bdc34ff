"""ORTH-ADAPTER: the overlap of the developer's LoRA with the auditor's sensitive LoRA, layer by layer.

L = sum over layers of || A A_s^T ||_F^2, zero where no row of the developer's A [r, in] has a part in the row space of
the sensitive A_s [r', in] (arXiv 2503.05684's orthogonality, on adapters that come from separate data). With factors
"AB" also || B^T B_s ||_F^2 of B [out, r].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from secure_fair.fairness.terms import PlainTerm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def columns(factors: Mapping[str, Tensor], chosen: str) -> list[Tensor]:
    """The chosen factors as tall matrices [in or out, r], in the order of their names; views, in their graphs."""
    found = [value.T for name, value in sorted(factors.items()) if name.endswith("lora_A.weight")]
    if chosen == "AB":
        found += [value for name, value in sorted(factors.items()) if name.endswith("lora_B.weight")]
    return found


def overlap(own: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Sum of || own^T other ||_F^2 over pairs of [d, r] and [d, r']."""
    return torch.stack(
        [(mine.T @ theirs.to(mine)).square().sum() for mine, theirs in zip(own, other, strict=True)]
    ).sum()


def gradient_half(own: Tensor, other: Tensor) -> Tensor:
    """other (other^T own), [d, r]: half the gradient of the overlap, and what the secure protocol opens."""
    return other @ (other.T @ own)


class PlainOverlap(PlainTerm):
    """The penalty with both adapters in memory."""

    name = "orth-adapter"

    def __init__(self, own: Mapping[str, Tensor], other: Mapping[str, Tensor], chosen: str) -> None:
        self._own, self._chosen = own, chosen
        self._other = columns(other, chosen)

    def begin(self, _h: Tensor, _labels: Tensor, _positions: Tensor, /) -> None:
        """Nothing depends on the batch."""

    def finish(self) -> Tensor:
        return overlap(columns(self._own, self._chosen), self._other)
