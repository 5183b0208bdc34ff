"""Least squares: adding records up does not hide them while there are as many outputs as records.

A weight gradient, a moment, any M = V^T t with known V [N, D] is D equations for N unknown attributes. For N <= D they
have one solution, whatever the protocol that computed M; a batch of 64 against 768 weights is far on the wrong side.
Only noise helps, or many more records than outputs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NAME = "least squares on the aggregate"
_PRIOR = 0.5, 0.25  # mean and variance of a 0/1 attribute of which nothing is known
_TOLERANCE = 1e-9  # relative singular value below which V has no say


def recover(vectors: Floats, aggregate: Floats, noise: float = 0.0) -> Floats:
    """Estimate t [N, J] in M = V^T t + noise from V [N, D] and M [D, J].

    noise: standard deviation of each number of M. The posterior mean of t under a Gaussian prior that knows nothing;
    without noise the solution of least norm (about 1/2), which is t itself if the rows of V are independent.
    """
    mean, variance = _PRIOR
    left, values, right = np.linalg.svd(vectors, full_matrices=False)  # V = left values right
    gain = np.where(values > _TOLERANCE * values[0], values, 0.0)
    gain = np.divide(gain, gain**2 + noise**2 / variance, out=np.zeros_like(gain), where=gain > 0)
    estimate: Floats = mean + left @ (gain[:, None] * (right @ (aggregate - mean * vectors.sum(axis=0)[:, None])))
    return estimate
