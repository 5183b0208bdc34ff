"""The best attack on one record attains the bounds where they are tight and never exceeds them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm, rankdata

from secure_fair.leakage import matched_filter
from secure_fair.privacy.accountant import UNIT, Cost, gaussian_cost
from secure_fair.releases.moment import MomentPlan, attribute_columns, noised, quantise
from secure_fair.releases.randomized_response import flip

GAMES = 20_000
SIGMAS = 5.5  # two-sided false alarm 4e-8 of each comparison; half the noise is missed once in 10^16


def play(epsilon: float, halved: bool) -> tuple[float, float, matched_filter.Bounds]:
    """(advantage, AUC, bounds) over games with a fresh fair coin and fresh noise; the attacker knows all else.

    Each task class of one release is a canary with noise of its own, whose vector is as long as may be.
    """
    cost = gaussian_cost(epsilon, 1e-5)
    plan = MomentPlan((2,), classes=1000, dimension=3)
    used = Cost(4 * cost.rho, None) if halved else cost
    row = quantise(np.array([[1.0, 0.0, 1.0]], dtype=np.float32), plan)
    shift = (row.T @ attribute_columns([np.array([[0, 1]])])).ravel()  # what coin = 1 adds
    generator = np.random.default_rng(5)
    coins, scores = [], []
    for _ in range(GAMES // plan.classes):
        coin = generator.integers(0, 2, plan.classes)
        seen = noised(np.outer(shift, coin), plan, used)
        coins.append(coin)
        scores.append(matched_filter.canary_scores(seen.T.astype(float), shift.astype(float), plan.noise_scale(cost)))
    truth, score = np.concatenate(coins), np.concatenate(scores)
    advantage = 2 * float(((score > 0) == truth).mean()) - 1
    ones = int(truth.sum())
    auc = (rankdata(score)[truth == 1].sum() - ones * (ones + 1) / 2) / (ones * (GAMES - ones))
    return advantage, float(auc), matched_filter.gaussian_bounds(cost.rho / UNIT)


def test_a_canary_at_epsilon_1_attains_the_bounds_and_no_more() -> None:
    advantage, auc, bounds = play(1.0, halved=False)
    assert advantage == pytest.approx(bounds.advantage, abs=SIGMAS / math.sqrt(GAMES))
    assert auc == pytest.approx(bounds.auc, abs=SIGMAS / math.sqrt(3 * GAMES))


def test_half_the_noise_exceeds_the_bounds() -> None:
    advantage, auc, bounds = play(1.0, halved=True)
    assert advantage > bounds.advantage + SIGMAS / math.sqrt(GAMES)
    assert auc > bounds.auc + SIGMAS / math.sqrt(3 * GAMES)


def test_bounds_are_those_of_two_gaussians_at_distance_mu() -> None:
    rho = 0.08
    bounds = matched_filter.gaussian_bounds(rho)
    assert bounds.advantage == pytest.approx(norm.cdf(0.2) - norm.cdf(-0.2))
    assert bounds.auc == pytest.approx(norm.cdf(0.4 / math.sqrt(2)))


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_binary_randomized_response_attains_its_bound(epsilon: float) -> None:
    coins = np.random.default_rng(6).integers(0, 2, GAMES)
    evidence = matched_filter.response_evidence(flip(coins, 2, epsilon), 2, epsilon)
    guess = matched_filter.posterior(np.full((GAMES, 2), 0.5), evidence)
    advantage = 2 * float((guess.argmax(axis=1) == coins).mean()) - 1
    bounds = matched_filter.pure_bounds(epsilon)
    assert advantage == pytest.approx(bounds.advantage, abs=SIGMAS / math.sqrt(GAMES))
    assert guess[0].max() == pytest.approx(1 / (1 + math.exp(-epsilon)))


@pytest.mark.parametrize("categories", [3, 5])
def test_more_categories_stay_below_the_bound(categories: int) -> None:
    """Two of K categories are what the canary may be; the others never."""
    epsilon = 1.0
    coins = np.random.default_rng(7).integers(0, 2, GAMES)
    evidence = matched_filter.response_evidence(flip(coins, categories, epsilon), categories, epsilon)[:, :2]
    guess = evidence[:, 1] - evidence[:, 0] + np.random.default_rng(8).normal(0, 1e-6, GAMES) > 0
    assert 2 * (guess == coins).mean() - 1 < matched_filter.pure_bounds(epsilon).advantage


def test_evidence_is_the_likelihood_ratio_of_the_moment() -> None:
    """Against the two densities themselves, with the record left out of the others' mean and covariance."""
    generator = np.random.default_rng(9)
    n, width, noise = 12, 4, 0.7
    vectors = generator.normal(size=(n, width))
    expected = generator.uniform(0.1, 0.9, (n, 2))
    moment = generator.normal(size=(width, 2))
    outsiders = generator.normal(size=(3, width))
    evidence, outside = matched_filter.moment_evidence(vectors, moment, expected, noise, outsiders)
    for column in range(2):
        mean = expected[:, column]
        covariance = noise**2 * np.eye(width) + vectors.T @ np.diag(mean * (1 - mean)) @ vectors
        everybody = multivariate_normal(vectors.T @ mean, covariance)
        for own, found in zip(outsiders, outside[:, column], strict=True):
            ratio = everybody.logpdf(moment[:, column] - own) - everybody.logpdf(moment[:, column])
            assert found == pytest.approx(ratio, rel=1e-8)
    for record in range(n):
        for column in range(2):
            mean = np.delete(expected[:, column], record)
            others = np.delete(vectors, record, axis=0)
            covariance = noise**2 * np.eye(width) + others.T @ np.diag(mean * (1 - mean)) @ others
            without = multivariate_normal(others.T @ mean, covariance)
            ratio = without.logpdf(moment[:, column] - vectors[record]) - without.logpdf(moment[:, column])
            assert evidence[record, column] == pytest.approx(ratio, rel=1e-8)


def test_few_records_with_little_noise_are_read() -> None:
    """The filter has power: at an epsilon that protects nobody, it finds the coins of few records, and no others."""
    generator = np.random.default_rng(10)
    coins = generator.integers(0, 2, 64)
    vectors = np.concatenate([generator.normal(size=(64, 96)) / math.sqrt(96), np.ones((64, 1))], axis=1)
    moment = vectors.T @ coins[:, None] + generator.normal(0, 0.05, (97, 1))
    outsiders = np.concatenate([generator.normal(size=(2000, 96)) / math.sqrt(96), np.ones((2000, 1))], axis=1)
    evidence, outside = matched_filter.moment_evidence(vectors, moment, np.full((64, 1), 0.5), 0.05, outsiders)
    assert np.array_equal(evidence[:, 0] > 0, coins == 1)
    right = ((outside[:, 0] > 0) == generator.integers(0, 2, 2000)).mean()
    assert abs(right - 0.5) < 4.5 * 0.5 / math.sqrt(2000)  # two-sided false alarm 6.8e-6


def test_the_posterior_weighs_model_and_evidence() -> None:
    prior = np.array([[0.8, 0.2]])
    assert matched_filter.posterior(prior, np.array([[math.log(4)]])) == pytest.approx(np.array([[0.5, 0.5]]))
    assert matched_filter.posterior(np.full((1, 3), 1 / 3), np.log([[0.5, 0.25, 0.25]])) == pytest.approx(
        np.array([[0.5, 0.25, 0.25]])
    )
