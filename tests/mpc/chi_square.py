"""Chi-square tests; each gives the probability of what was seen, or of worse, if the law holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats


def uniform(values: torch.Tensor | bytes, cells: int = 256) -> float:
    """Are these numbers in [0, cells), or bytes, uniform?"""
    return float(stats.chisquare(_counts(values, cells)).pvalue)


def alike(first: bytes, second: bytes) -> float:
    """Do the bytes of both come from one law?"""
    table = np.stack([_counts(first, 256), _counts(second, 256)])
    return float(stats.chi2_contingency(table[:, table.any(axis=0)]).pvalue)


def _counts(values: torch.Tensor | bytes, cells: int) -> npt.NDArray[np.int64]:
    numbers = np.frombuffer(values, dtype=np.uint8) if isinstance(values, bytes) else values.flatten().numpy()
    return np.bincount(numbers, minlength=cells)
