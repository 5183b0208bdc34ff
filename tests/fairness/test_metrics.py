"""Metrics against counting by hand and against fairlearn's own differences where those are defined."""

from __future__ import annotations

import math

import fairlearn.metrics
import numpy as np
import pytest
from numpy.typing import NDArray

from secure_fair.fairness.metrics import evaluate, overall

NAMES = ("no", "yes")


def scores_for(predicted: NDArray[np.int64], classes: int = 2) -> NDArray[np.float64]:
    return np.eye(classes)[predicted] * 0.5 + 0.5 / classes


def test_a_table_counted_by_hand() -> None:
    #  group no: 3 positives (2 found), 2 negatives (1 raised); group yes: 2 positives (2 found), 3 negatives (0 raised)
    groups = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    labels = np.array([1, 1, 1, 0, 0, 1, 1, 0, 0, 0])
    predicted = np.array([1, 1, 0, 1, 0, 1, 1, 0, 0, 0])
    result = evaluate(labels, scores_for(predicted), groups, NAMES)
    assert result["accuracy"] == pytest.approx(0.8)
    assert result["balanced_accuracy"] == pytest.approx(0.8)
    assert result["worst_group_accuracy"] == pytest.approx(0.6)
    assert result["demographic_parity_difference"] == pytest.approx(0.2)
    assert result["true_positive_rate_difference"] == pytest.approx(1 / 3)
    assert result["false_positive_rate_difference"] == pytest.approx(0.5)
    assert result["equalized_odds_difference"] == pytest.approx(0.5)
    assert result["by_group"]["no"] == pytest.approx(
        {
            "count": 5,
            "positives": 3,
            "accuracy": 0.6,
            "selection_rate": 0.6,
            "true_positive_rate": 2 / 3,
            "false_positive_rate": 0.5,
        }
    )


@pytest.mark.parametrize("k", [2, 3])
def test_differences_equal_fairlearns(k: int) -> None:
    rng = np.random.default_rng(0)
    labels, predicted, groups = rng.integers(2, size=300), rng.integers(2, size=300), rng.integers(k, size=300)
    result = evaluate(labels, scores_for(predicted), groups, [f"group {i}" for i in range(k)])
    for name in (
        "demographic_parity_difference",
        "true_positive_rate_difference",
        "false_positive_rate_difference",
        "equalized_odds_difference",
    ):
        expected = getattr(fairlearn.metrics, name)(labels, predicted, sensitive_features=groups)
        assert result[name] == pytest.approx(expected, abs=1e-12)


def test_an_empty_denominator_is_nan_and_so_is_what_needs_it() -> None:
    groups = np.array([0, 0, 1, 1])
    labels = np.array([1, 0, 0, 0])  # no positive in the group yes
    result = evaluate(labels, scores_for(np.array([1, 0, 1, 0])), groups, NAMES)
    assert math.isnan(result["by_group"]["yes"]["true_positive_rate"])
    assert math.isnan(result["true_positive_rate_difference"])
    assert math.isnan(result["equalized_odds_difference"])
    assert result["false_positive_rate_difference"] == pytest.approx(0.5)


def test_a_category_without_records_is_listed_and_undefined() -> None:
    labels = np.array([0, 1, 0, 1])
    result = evaluate(labels, scores_for(labels), np.array([0, 0, 1, 1]), ("a", "b", "c"))
    assert result["by_group"]["c"]["count"] == 0
    assert math.isnan(result["by_group"]["c"]["accuracy"])
    assert math.isnan(result["demographic_parity_difference"])
    assert math.isnan(result["worst_group_accuracy"])


def test_more_classes_take_the_largest_difference_over_one_against_the_rest() -> None:
    rng = np.random.default_rng(1)
    labels, predicted, groups = rng.integers(3, size=200), rng.integers(3, size=200), rng.integers(2, size=200)
    result = evaluate(labels, scores_for(predicted, 3), groups, NAMES)
    expected = max(
        fairlearn.metrics.equalized_odds_difference(labels == c, predicted == c, sensitive_features=groups)
        for c in range(3)
    )
    assert result["equalized_odds_difference"] == pytest.approx(expected, abs=1e-12)
    assert len(result["by_group"]["no"]["true_positive_rate"]) == 3


def test_auc_ranks_scores_and_is_nan_with_one_class() -> None:
    labels = np.array([0, 0, 1, 1])
    positive = np.array([0.1, 0.4, 0.35, 0.8])
    assert overall(labels, np.stack([1 - positive, positive], axis=1))["auc"] == pytest.approx(0.75)
    assert math.isnan(overall(np.ones(3, dtype=np.int64), scores_for(np.array([1, 0, 1])))["auc"])


def test_no_records_give_nan() -> None:
    assert all(math.isnan(value) for value in overall(np.zeros(0, dtype=np.int64), np.zeros((0, 2))).values())
