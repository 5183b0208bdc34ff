"""One-sided products: the developer knows `left`, the auditor knows `right`, and [op(left, right)] is wanted.

CrypTen's general (Beaver) product masks both operands at both parties; here each party sends its own operand masked,
once, and no operand is ever shared both ways. For a bilinear op and dealt [op(A, B)]:

1. developer -> auditor: E = left - A        auditor -> developer: F = right - B
2. developer: share = dealt + op(A, F)       auditor: share = dealt + op(E, right)

since op(left, right) = op(A, B) + op(A, F) + op(E, right). Exact in Z_2^64: no truncation, no error. One E serves
every product that `left` enters within a step (the same value under the same mask), each with its own dealt share.
"""

from __future__ import annotations

import torch

from secure_fair.mpc.dealing.plan import OPERATIONS
from secure_fair.mpc.dealing.source import StepRandomness


def developer_share(step: StepRandomness, name: str, masked_right: torch.Tensor) -> torch.Tensor:
    """The developer's share of the program's product `name`, from the auditor's masked operand F."""
    product = step.program.products[name]
    return step.product(name) + OPERATIONS[product.operation](step.mask(product.left).values, masked_right)


def auditor_share(step: StepRandomness, name: str, masked_left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The auditor's share, from the developer's masked operand E and the auditor's own operand."""
    product = step.program.products[name]
    return step.product(name) + OPERATIONS[product.operation](masked_left, right)
