"""Wilson's interval against scipy's, and against its definition where scipy has none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from secure_fair.fairness.intervals import wilson


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.05 / 28])
def test_it_is_scipys(alpha: float) -> None:
    hits, n = np.array([0.0, 3.0, 10.0, 770.0]), np.array([10.0, 10.0, 10.0, 800.0])
    low, high = wilson(hits / n, n, alpha)
    for k, trials, *ends in zip(hits, n, low, high, strict=True):
        expected = stats.binomtest(int(k), int(trials)).proportion_ci(1 - alpha, method="wilson")
        assert ends == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_its_ends_are_where_the_score_test_rejects() -> None:
    """Of an effective size as well, which is no whole number."""
    p, n, alpha = 0.3, 17.25, 0.1
    z = stats.norm.ppf(1 - alpha / 2)
    for end in wilson(p, n, alpha):
        assert abs(p - end) == pytest.approx(z * np.sqrt(end * (1 - end) / n), rel=1e-12)


def test_it_holds_the_rate_and_no_trial_has_none() -> None:
    (low, none), (high, also) = wilson(np.array([1.0, np.nan]), np.array([7.0, 0.0]), 0.05)
    assert 0 < low < high == 1.0
    assert np.isnan([none, also]).all()
