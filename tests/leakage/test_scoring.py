"""Scores against values worked out elsewhere, and intervals against their own promise."""

from __future__ import annotations

import numpy as np
import pytest

from secure_fair.leakage.scoring import auc, inside_minus_outside, names_of_groups, oriented_auc


def flags(right: int, of: int) -> np.ndarray:
    return np.arange(of) < right


def zeros(n: int) -> np.ndarray:
    return np.zeros(n, dtype=np.int64)


# Newcombe (1998), table II, method 10
@pytest.mark.parametrize(
    ("a", "m", "b", "n", "low", "high"),
    [(56, 70, 48, 80, 0.0524, 0.3339), (9, 10, 3, 10, 0.1705, 0.8090), (10, 10, 0, 20, 0.6791, 1.0)],
)
def test_the_interval_is_newcombes(a: int, m: int, b: int, n: int, low: float, high: float) -> None:
    found = inside_minus_outside(flags(a, m), zeros(m), flags(b, n), zeros(n))
    assert found.difference == pytest.approx(a / m - b / n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_outside_is_weighted_to_the_mixture_inside() -> None:
    """The attack is right on 90 % of kind 0 and 50 % of kind 1, in both; only the mixtures differ."""
    inside = np.concatenate([flags(810, 900), flags(50, 100)])
    outside = np.concatenate([flags(90, 100), flags(450, 900)])
    kinds = np.arange(2)
    found = inside_minus_outside(inside, np.repeat(kinds, [900, 100]), outside, np.repeat(kinds, [100, 900]))
    assert found.difference == pytest.approx(0, abs=1e-12)
    assert found.low < 0 < found.high


def test_the_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    rates, mixture = np.array([0.95, 0.6, 0.8]), np.array([0.7, 0.1, 0.2])
    covered = 0
    for _ in range(1000):
        kinds_in, kinds_out = generator.choice(3, 2000, p=mixture), generator.integers(0, 3, 600)
        inside, outside = (generator.random(len(kinds)) < rates[kinds] for kinds in (kinds_in, kinds_out))
        found = inside_minus_outside(inside, kinds_in, outside, kinds_out)
        covered += found.low <= 0 <= found.high
    assert 0.92 < covered / 1000 <= 0.99  # 0.95 within four standard errors, and slightly above as Wilson's is


def test_kinds_without_counterpart_are_left_out() -> None:
    found = inside_minus_outside(flags(3, 4), np.array([0, 0, 0, 1]), flags(1, 1), np.array([0]))
    assert found.difference == pytest.approx(0)
    assert np.isnan(inside_minus_outside(flags(1, 2), zeros(2), flags(1, 2), zeros(2) + 1).difference)


def test_names_of_groups_is_the_best_permutation_and_ignores_the_unknown() -> None:
    found = np.array([2, 2, 0, 0, 1, 1, -1])
    truth = np.array([0, 0, 1, 1, 2, 1, 2])
    assert names_of_groups(found, truth, 3).tolist() == [1, 2, 0]


def test_auc_takes_the_mean_over_categories_against_the_rest() -> None:
    truth = np.array([0, 0, 1, 1])
    assert auc(truth, np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.2, 0.8]])) == pytest.approx(0.75)
    three = np.array([0, 1, 2])
    assert auc(three, np.eye(3)) == 1.0
    assert auc(three, np.roll(np.eye(3), 1, axis=1)) == pytest.approx(0.25)
    assert np.isnan(auc(np.zeros(4, dtype=np.int64), np.full((4, 2), 0.5)))


def test_a_score_without_direction_is_turned_the_right_way() -> None:
    truth = np.array([0, 0, 1, 1])
    scores = np.array([[4.0, 0.0], [3.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
    assert oriented_auc(truth, scores[:, :1], 2) == 1.0
    assert oriented_auc(truth, scores[:, 1:], 2) == 0.5
    assert oriented_auc(truth, scores, 2) == 1.0
