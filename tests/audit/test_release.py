"""The noise of an audit: its sensitivity by search, its law, and that totals are kept."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from secure_fair.audit.layout import Layout
from secure_fair.audit.release import AuditPlan, consistent, noised, threshold_scale
from secure_fair.errors import RefusedError
from secure_fair.privacy.accountant import UNIT, Cost, gaussian_cost

FALSE_ALARM = 1e-6


@pytest.mark.parametrize("layout", [Layout(2), Layout(2, bins=6), Layout(4)], ids=["binary", "bins", "classes"])
@pytest.mark.parametrize(("groups", "records"), [((2,), 1), ((4,), 1), ((2, 3), 1), ((3,), 3)])
def test_nobody_moves_the_counts_further(layout: Layout, groups: tuple[int, ...], records: int) -> None:
    """Every pair of rows of attributes, every label and prediction of the person's records: the largest distance."""
    classes = layout.classes
    pairs = itertools.product(range(classes), range(layout.bins or classes))
    rows = np.array([layout.rows(np.array([y], np.uint8), np.array([p], np.uint8))[0] for y, p in pairs])
    largest = 0  # squared, exactly
    for before, after in itertools.product(itertools.product(*map(range, groups)), repeat=2):
        moved = np.concatenate(
            [np.eye(k, dtype=int)[b] - np.eye(k, dtype=int)[a] for k, a, b in zip(groups, before, after, strict=True)]
        )  # [sum of K]
        for row in rows:  # m equal records move the furthest
            largest = max(largest, records**2 * int((np.outer(moved, row) ** 2).sum()))
    plan = AuditPlan(layout, groups, 100, records)
    assert Fraction(plan.sensitivity) ** 2 >= largest
    assert plan.sensitivity == pytest.approx(math.sqrt(largest), rel=1e-9)  # rounded up, and no more


def test_the_noise_has_the_stated_scale() -> None:
    plan = AuditPlan(Layout(2), (4,), 1000, 1)
    scale = plan.scale(gaussian_cost(2.0, 1e-5))
    draws = noised(np.zeros((4, 5000), np.int32), scale).ravel().astype(float)
    statistic = (draws**2).sum() / scale**2  # chi-square with as many degrees of freedom
    assert stats.chi2(len(draws)).cdf(statistic) == pytest.approx(0.5, abs=0.5 - FALSE_ALARM)
    assert scale == pytest.approx(3.04, abs=0.005)  # as docs/audit.md says
    assert plan.scale(Cost(10**12, None)) == pytest.approx(1.0, rel=1e-9)  # sqrt(2) / sqrt(2 rho)


@pytest.mark.parametrize("attributes", [1, 2, 3, 40, 2048])
@pytest.mark.parametrize("records", [1, 3, 7, 10**6])
def test_whatever_is_rounded_the_cost_is_not_exceeded(attributes: int, records: int) -> None:
    """rho = sensitivity^2 / (2 scale^2), exactly: at most what is debited, and short of it by rounding only."""
    for layout in (Layout(2), Layout(4), Layout(0, bits=16)):
        plan = AuditPlan(layout, (2,) * attributes, 100, records)
        for cost in (gaussian_cost(2.0, 1e-5), gaussian_cost(0.1, 1e-9), Cost(10**12, None), Cost(7, None)):
            squared = layout.sensitivity_squared * attributes * records**2
            rho = Fraction(squared) / (2 * Fraction(plan.scale(cost)) ** 2)
            assert 1 - Fraction(1, 10**14) < rho * UNIT / cost.rho <= 1


def test_noise_wraps_with_the_ring() -> None:
    share = np.full((2, 2), 2**31 - 1, dtype=np.int32)
    assert noised(share, 5.0).dtype == np.int32


def test_counts_that_add_up_have_less_noise() -> None:
    generator = np.random.default_rng(1)
    truth = np.arange(20.0).reshape(5, 4)
    groups = (2, 3)
    totals = truth[:2].sum(axis=0)
    truth[2:] *= totals / truth[2:].sum(axis=0)
    errors = []
    for _ in range(4000):
        found = consistent(truth + generator.normal(0, 1, truth.shape), totals, groups)
        assert np.allclose(found[:2].sum(axis=0), totals)
        assert np.allclose(found[2:].sum(axis=0), totals)
        errors.append(found - truth)
    spread = np.std(errors, axis=0)
    assert np.allclose(spread[:2], np.sqrt(1 / 2), atol=0.05)
    assert np.allclose(spread[2:], np.sqrt(2 / 3), atol=0.05)


def test_what_would_wrap_is_refused() -> None:
    AuditPlan(Layout(2), (2,), 2**30, 1).require_range(1000.0)
    with pytest.raises(RefusedError, match="overflow 32 bits"):
        AuditPlan(Layout(2), (2,), 2**31 - 1000, 1).require_range(1000.0)
    assert threshold_scale(20) == 5.0
    assert threshold_scale(1) == 1.0
