"""The predictor, its floor, and the prior, on people of whom the truth is constructed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from secure_fair.leakage import predictor, prior
from secure_fair.leakage.scoring import Integers, auc


def gaussian_people(n: int, distance: float, seed: int) -> tuple[np.ndarray, Integers, Integers]:
    """Features with unit noise whose first number is shifted by `distance` for s = 1; labels are coins."""
    generator = np.random.default_rng(seed)
    s, y = generator.integers(0, 2, n), generator.integers(0, 2, n)
    features = generator.normal(size=(n, 8))
    features[:, 0] += distance * s
    return features, s, y


def test_a_predictor_of_new_people_reaches_what_the_features_allow() -> None:
    features, s, y = gaussian_people(20_000, 1.5, seed=0)
    scores = predictor.fitted(features[:10_000], y[:10_000], s[:10_000], 2, features[10_000:], y[10_000:])
    assert auc(s[10_000:], scores) == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=4.5 * 0.5 / np.sqrt(10_000))


def test_wrong_attributes_give_no_predictor() -> None:
    features, s, y = gaussian_people(20_000, 1.5, seed=1)
    coins = np.random.default_rng(2).integers(0, 2, 10_000)
    scores = predictor.fitted(features[:10_000], y[:10_000], coins, 2, features[10_000:], y[10_000:])
    # Some direction in eight, and not the right one.
    assert 0.1 < auc(s[10_000:], scores) < norm.cdf(1.5 / np.sqrt(2)) - 0.02


def test_the_floor_is_the_auc_of_the_difference_of_two_models() -> None:
    generator = np.random.default_rng(3)
    s = generator.integers(0, 2, 5000)
    f1 = generator.normal(size=(5000, 1)).repeat(2, axis=1)
    f0 = f1 - 0.2 * s[:, None] * np.array([1.0, -1.0])  # the unfair model scores s = 1 differently
    assert predictor.floor_auc(s, 2, f0, f1) == 1.0
    assert predictor.floor_auc(s, 2, f1, f1) == 0.5


def test_the_prior_lists_what_the_developer_had() -> None:
    features, s, y = gaussian_people(20_000, 3.0, seed=4)
    y = np.where(np.random.default_rng(5).random(len(s)) < 0.8, s, y)
    f0 = np.stack([-y, y], axis=1) + np.random.default_rng(6).normal(0, 0.1, (len(s), 2))
    found = prior.guesses(s, 2, y, f0, features)
    assert found["task label"] == pytest.approx(0.9, abs=0.01)
    assert found["frozen features"] > 0.6  # what is left of the attribute where the label is the same
    assert 0.85 < found["score without attributes"] < 0.92
    assert "score without attributes" not in prior.guesses(s, 2, y, None, features)


def test_features_whose_largest_difference_is_the_attribute_give_it_away() -> None:
    features, s, y = gaussian_people(20_000, 3.0, seed=8)
    found = prior.guesses(s, 2, y, None, features)
    assert found["frozen features"] == pytest.approx(norm.cdf(3 / np.sqrt(2)), abs=0.01)


def test_the_prior_of_features_that_show_nothing_is_a_guess() -> None:
    features, s, y = gaussian_people(20_000, 0.0, seed=7)
    found = prior.guesses(s, 2, y, None, features)
    assert max(found.values()) < 0.5 + 4.5 * 0.5 / np.sqrt(len(s) / 2)
