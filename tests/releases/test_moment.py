"""Vectors, bounds, columns, weights and the public facts of a moment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from secure_fair.errors import DataError, RefusedError
from secure_fair.privacy.accountant import gaussian_cost, norm_limit_squared
from secure_fair.releases.moment import (
    FeatureMap,
    MomentPlan,
    attribute_columns,
    noised,
    quantise,
    vectors,
)

COST = gaussian_cost(2.0, 1e-5)


def exact_norms(rows: np.ndarray) -> list[int]:
    return [sum(int(value) ** 2 for value in row) for row in rows]


@given(
    arrays.arrays(np.float32, (3, 4), elements=st.floats(-8, 8, width=32)),
    st.integers(1, 2),
    st.floats(0.01, 4),
)
def test_no_vector_is_longer_than_the_account_assumes(u: np.ndarray, blocks: int, clip: float) -> None:
    """Exactly, in integers, whatever the developer's features are; and never away from zero."""
    plan = MomentPlan((2,), 1, 4, blocks, clip)
    rows = quantise(u, plan)
    assert max(exact_norms(rows)) <= norm_limit_squared(blocks, clip)
    assert (np.abs(rows) <= np.abs(u.astype(np.float64)) * clip * 2**16).all()


def test_vectors_of_unit_blocks_are_rounded_and_not_clipped() -> None:
    features = np.random.default_rng(0).normal(size=(500, 24)).astype(np.float32)
    feature_map = FeatureMap.fit(features)
    u = vectors([feature_map, feature_map], [features, features])
    assert u.shape == (500, 49)
    np.testing.assert_allclose(np.linalg.norm(u[:, :24], axis=1), 1, rtol=1e-6)
    rows = quantise(u, MomentPlan((2,), 1, 49, blocks=2))
    assert (rows[:, -1] == 2**14).all()
    assert np.abs(rows / 2**16 - u).max() < 2**-16
    assert (np.abs(rows) <= np.abs(u.astype(np.float64)) * 2**16).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="NaN or infinity"):
        quantise(np.array([[value, 1.0]], dtype=np.float32), MomentPlan((2,), 1, 2))


def test_the_feature_map_centres_and_takes_a_rank() -> None:
    generator = np.random.default_rng(1)
    features = generator.normal(size=(2000, 32)) * np.arange(1, 33) ** -0.7 + 5 * generator.normal(size=32)
    u = vectors([FeatureMap.fit(features)], [features])[:, :-1]
    assert np.linalg.norm(u.mean(axis=0)) < 0.05
    assert np.linalg.norm(features.mean(axis=0)) / np.linalg.norm(features, axis=1).mean() > 0.9
    small = FeatureMap.fit(features, rank=8, seed=3)
    assert vectors([small], [features]).shape == (2000, 9)
    np.testing.assert_array_equal(small.matrix, FeatureMap.fit(features, rank=8, seed=3).matrix)
    assert vectors([FeatureMap.fit(features, rank=99)], [features]).shape == (2000, 33)


def test_a_constant_feature_gives_zeros_and_no_warning() -> None:
    features = np.full((10, 4), 3.0)
    u = vectors([FeatureMap.fit(features)], [features])
    assert (u[:, :-1] == 0).all()


def test_columns_of_several_attributes() -> None:
    male = np.eye(2, dtype=np.int64)[[0, 1, 1]]
    tone = np.eye(3, dtype=np.int64)[[2, 0, 1]]
    np.testing.assert_array_equal(attribute_columns([male, tone]), [[0, 0, 0, 1], [1, 1, 0, 0], [1, 0, 1, 0]])
    assert MomentPlan((2, 3), 2, 5).shape == (5, 8)
    assert MomentPlan((6,), 2, 5).columns == 6


def test_a_persons_weights_never_exceed_one_record() -> None:
    persons = ["a"] * 3 + ["b"] + ["c"] * 7
    columns = attribute_columns([np.tile([0, 1], (11, 1))], persons)
    for person in "abc":
        total = columns[[name == person for name in persons]].sum()
        assert 2**16 - 7 <= total <= 2**16


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"categories": ()}, "at least one attribute"),
        ({"categories": (2, 1)}, "two categories or more"),
        ({"classes": 0}, "classes must be in"),
        ({"dimension": 1}, "the width in"),
        ({"dimension": 10**9}, "the width in"),
        ({"blocks": 3}, "blocks 1 or 2"),
        ({"clip": 0.0}, "clip must be in"),
        ({"clip": float("nan")}, "clip must be in"),
    ],
)
def test_facts_out_of_range_are_refused(facts: dict[str, object], told: str) -> None:
    known: dict[str, object] = {"categories": (2,), "classes": 2, "dimension": 9}
    with pytest.raises(RefusedError, match=told):
        MomentPlan(**(known | facts))  # type: ignore[arg-type]


def test_a_share_of_another_shape_is_refused() -> None:
    plan = MomentPlan((2,), 2, 5)
    with pytest.raises(RefusedError, match=r"\(5, 1\) where the request announced \(5, 2\)"):
        noised(np.zeros((5, 1), dtype=np.int64), plan, COST)


def test_sums_that_could_wrap_are_refused() -> None:
    plan = MomentPlan((2,), 2, 769, weighted=True)
    plan.require_range(200_000, COST)
    with pytest.raises(RefusedError, match="overflow"):
        MomentPlan((2,), 2, 769, clip=1024.0, weighted=True).require_range(1_100_000, COST)
