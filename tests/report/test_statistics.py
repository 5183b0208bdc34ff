"""Intervals against scipy's and against their nominal coverage; the front against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from secure_fair.report.statistics import of_rate, over_seeds, pareto, ratio_over_seeds


def test_mean_and_interval_are_students() -> None:
    values = [0.1, 0.25, 0.2, 0.4]
    found = over_seeds(values)
    assert found is not None
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(0.2375)
    assert found.n == 4


@pytest.mark.parametrize("values", [[0.5], [0.25, 0.75]])
def test_few_values_have_no_interval_and_none_no_mean(values: list[float]) -> None:
    """Of two, 0.25 and 0.75, it would be 0.5 ± 3.18, and a ratio's of 1 and 10 end at 7 million."""
    found, ratio = over_seeds([None, *values, math.nan]), ratio_over_seeds([value * 10 for value in values])
    assert found is not None
    assert ratio is not None
    assert (found.mean, found.low, found.high, found.half) == (0.5, None, None, None)
    assert (found.n, ratio.low, ratio.high) == (len(values), None, None)
    assert over_seeds([None]) is None


@pytest.mark.parametrize("n", [3, 5])
def test_the_interval_holds_the_mean_as_often_as_it_says(n: int) -> None:
    """4000 repetitions: the false-alarm rate of the bounds (four standard errors) is below 1e-4."""
    rng = np.random.default_rng(n)
    held = 0
    for sample in rng.normal(3.0, 2.0, size=(4000, n)).tolist():
        found = over_seeds(sample)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 3.0 <= found.high
    assert abs(held / 4000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_ratios_are_symmetric() -> None:
    ratios = [0.8, 1.1, 1.3]
    found, inverse = ratio_over_seeds(ratios), ratio_over_seeds([1 / ratio for ratio in ratios])
    assert found is not None
    assert inverse is not None
    assert found.high is not None
    assert found.mean * inverse.mean == pytest.approx(1.0)
    assert inverse.low == pytest.approx(1 / found.high)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (10, 10), (770, 800)])
def test_rates_have_wilsons_interval(right: int, n: int) -> None:
    found = of_rate(right / n, n)
    assert found is not None
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_rate_without_records_has_no_interval() -> None:
    found = of_rate(0.5, None)
    assert found is not None
    assert found.half is None
    assert of_rate(None, 10) is None
    assert of_rate(math.nan, 0) is None


def test_the_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        points = [(float(u), float(b)) for u, b in rng.integers(5, size=(7, 2))]
        front = pareto(points)
        for index, (utility, bias) in enumerate(points):
            beaten = any(u >= utility and b <= bias and (u, b) != (utility, bias) for u, b in points)
            assert (index in front) is not beaten
        assert [points[index] for index in front] == sorted(points[index] for index in front)
