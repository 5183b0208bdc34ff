"""Discrete Gaussian noise, sampled by OpenDP; the only module that imports it.

There is no seed, no switch and no bound to pass: what is asked for is the shape and the scale, and OpenDP draws from
the operating system's generator by exact rational arithmetic (Canonne, Kamath and Steinke 2020).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

LARGEST_SCALE = 2.0**50  # a draw beyond 2^62, where a sum mod 2^64 would be misread, needs 4096 of these


def discrete_gaussian(shape: tuple[int, ...], scale: float) -> npt.NDArray[np.int64]:
    """Independent integers with P(x) proportional to exp(-x^2 / (2 scale^2)); about 20 microseconds each.

    Sampled on a zero vector and added mod 2^64 by the caller: noising a share itself would saturate near 2^63.
    Raises ValueError unless 0 < scale <= 2^50.
    """
    if not (math.isfinite(scale) and 0 < scale <= LARGEST_SCALE):
        raise ValueError(f"noise scale {scale} must be in (0, 2^50]")
    from opendp.domains import atom_domain, vector_domain
    from opendp.measurements import make_gaussian
    from opendp.metrics import l2_distance
    from opendp.mod import enable_features

    enable_features("contrib")  # OpenDP's consent to constructors whose proofs are not yet vetted
    mechanism = make_gaussian(vector_domain(atom_domain(T="i64")), l2_distance(T="f64"), scale=scale)
    return np.array(mechanism([0] * math.prod(shape)), dtype=np.int64).reshape(shape)
