"""The confidence interval of a rate."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def wilson(p: Array | float, n: Array | float, alpha: float) -> tuple[Array, Array]:
    """Wilson's score interval (1927) at level 1 - alpha of proportions p of n trials; NaN where n is 0.

    n need not be whole: it may be an effective size.
    """
    p, n = np.asarray(p, dtype=np.float64), np.asarray(n, dtype=np.float64)
    z2 = NormalDist().inv_cdf(1 - alpha / 2) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return np.clip(centre - half, 0, p), np.clip(centre + half, p, 1)
