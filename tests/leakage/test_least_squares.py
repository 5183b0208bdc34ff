"""An aggregate with as many outputs as records hides nothing; noise does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from secure_fair.leakage import least_squares
from secure_fair.leakage.matched_filter import gaussian_bounds
from secure_fair.privacy.accountant import UNIT, gaussian_cost
from secure_fair.releases.moment import MomentPlan, attribute_columns, noised, quantise

RECORDS, WIDTH = 64, 97
SCALE = 2.0**16  # of the quantised vectors


def unit_vectors(generator: np.random.Generator, n: int) -> least_squares.Floats:
    rows = generator.normal(size=(n, WIDTH - 1))
    return np.concatenate([rows / np.linalg.norm(rows, axis=1, keepdims=True), np.ones((n, 1))], axis=1)


@pytest.mark.parametrize("categories", [2, 3])
def test_a_moment_of_fewer_records_than_numbers_is_solved_exactly(categories: int) -> None:
    generator = np.random.default_rng(0)
    onehot = np.eye(categories, dtype=np.int64)[generator.integers(0, categories, RECORDS)]
    plan = MomentPlan((categories,), 1, WIDTH)
    rows, columns = quantise(unit_vectors(generator, RECORDS).astype(np.float32), plan), attribute_columns([onehot])
    estimate = least_squares.recover(rows / SCALE, (rows.T @ columns) / SCALE)
    assert np.abs(estimate - columns).max() < 1e-6


def test_a_weight_gradient_is_solved_exactly() -> None:
    """X^T (p - t) of a logistic layer, p known: the same equations for p - t."""
    generator = np.random.default_rng(1)
    x, t, p = generator.normal(size=(32, WIDTH)), generator.integers(0, 2, (32, 1)), generator.random((32, 1))
    assert np.array_equal(np.round(p - least_squares.recover(x, x.T @ (p - t))), t)


def test_more_records_than_numbers_leave_most_of_each_coin_unknown() -> None:
    """D equations for N coins: an estimate explains at most D of N dimensions."""
    generator = np.random.default_rng(2)
    vectors, coins = unit_vectors(generator, 4000), generator.integers(0, 2, (4000, 1))
    estimate = least_squares.recover(vectors, vectors.T @ coins)
    explained = 1 - ((estimate - coins) ** 2).mean() / 0.25
    assert explained == pytest.approx(WIDTH / 4000, abs=5 * math.sqrt(2 * WIDTH) / 4000)


def test_noise_of_epsilon_1_keeps_coins_within_the_bound() -> None:
    """The very vectors that are solved exactly without noise; a fair coin each.

    Over fresh noise the mean advantage is 0.084 and its standard error 0.007: 12 of them above zero, and the bound two
    above it, so that each comparison fails by chance in less than one of 10^8 runs.
    """
    generator = np.random.default_rng(3)
    cost, plan = gaussian_cost(1.0, 1e-5), MomentPlan((2,), 1, WIDTH)
    right = []
    for _ in range(300):
        coins = generator.integers(0, 2, RECORDS)
        rows = quantise(unit_vectors(generator, RECORDS).astype(np.float32), plan)
        moment = noised(rows.T @ coins[:, None], plan, cost)
        estimate = least_squares.recover(rows / SCALE, moment / SCALE, plan.noise_scale(cost) / SCALE)
        right.append(((estimate[:, 0] > 0.5) == coins).mean())
    advantage = 2 * np.array(right) - 1
    bound = gaussian_bounds(cost.rho / UNIT).advantage
    error = advantage.std() / math.sqrt(len(advantage))
    assert advantage.mean() <= bound + norm.isf(1e-5) * error
    assert advantage.mean() > norm.isf(1e-5) * error  # and it is the right attack: better than guessing
