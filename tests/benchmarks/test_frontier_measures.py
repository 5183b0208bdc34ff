"""The frontier's measures against slow and plain calculations."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.frontier import measures, summary
from benchmarks.frontier.grid import REFERENCES, UNAWARE, Grid
from secure_fair.data.attributes import AttributeTable
from secure_fair.releases.ridge import SoftAttributes
from secure_fair.training.predictions import Predictions


def test_the_grid_has_every_point_once_and_the_unaware_model_first() -> None:
    arms = Grid().arms()
    assert arms[0] == UNAWARE
    assert len(arms) == len(set(arms)) == len(REFERENCES) + 2 * (8 + 4)  # rank 0 at epsilon 2 is in both parts
    assert len({arm.name for arm in arms}) == len(arms)


def test_auc_within_classes_ignores_what_the_class_tells() -> None:
    generator = np.random.default_rng(0)
    labels, groups = generator.integers(2, size=(2, 60))
    scores = np.round(generator.normal(size=60) + groups, 1)  # with ties
    pairs = [
        np.mean(
            [
                (a > b) + (a == b) / 2
                for a, b in itertools.product(
                    scores[(labels == label) & (groups == 1)], scores[(labels == label) & (groups == 0)]
                )
            ]
        )
        for label in (0, 1)
    ]
    assert measures.within_classes_auc(labels, scores, groups) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert measures.within_classes_auc(labels, scores + 100 * labels, groups) == pytest.approx(
        np.mean(pairs), abs=1e-12
    )
    assert math.isnan(measures.within_classes_auc(labels, scores, np.zeros(60, dtype=np.int64)))


def test_chance_is_the_expected_gap_of_an_unbiased_model() -> None:
    generator = np.random.default_rng(1)
    labels = np.repeat([0, 1], 400)
    predicted = np.where(generator.random(800) < 0.1, 1 - labels, labels)
    groups = np.tile([0, 1], 400)
    # two gaps, each nearly normal; the mean of the larger of two half-normals is sigma * 2 / sqrt(pi)
    sigmas = [predicted[labels == c].std() * math.sqrt(2 / 200) for c in (0, 1)]
    expected = math.hypot(*sigmas) / math.sqrt(2) * 2 / math.sqrt(math.pi)
    assert measures.chance(labels, predicted, groups) == pytest.approx(expected, rel=0.15)


def table_of(groups: np.ndarray) -> tuple[tuple[str, ...], AttributeTable]:
    ids = tuple(f"r{i}" for i in range(len(groups)))
    return ids, AttributeTable(ids, {"Male": groups}, {"Male": ("no", "yes")}, ids)


def test_the_difference_of_two_models_gives_away_what_one_removed() -> None:
    generator = np.random.default_rng(2)
    labels, groups = generator.integers(2, size=(2, 2000))
    ids, table = table_of(groups)
    clean = 3.0 * (2 * labels - 1) + generator.normal(size=2000)
    biased = clean + 2.0 * (2 * groups - 1)

    def model(logit: np.ndarray) -> Predictions:
        p = 1 / (1 + np.exp(-logit))
        return Predictions(ids, ("no", "yes"), labels, np.stack([1 - p, p], axis=1))

    told = measures.leakage(model(clean), model(biased), table, "Male")
    assert told["floor_auc"] > 0.999
    # within a class the biased scores of the groups are normal, 4 apart with deviation 1
    assert told["prior_auc"] == pytest.approx(stats.norm.cdf(4 / math.sqrt(2)), abs=0.01)
    assert measures.leakage(model(biased), model(clean), table, "Male")["floor_auc"] > 0.999


def test_the_predictor_is_judged_outside_the_data_and_in_it() -> None:
    generator = np.random.default_rng(3)
    predictor = SoftAttributes((2,), np.zeros((2, 2)), np.zeros((2, 1)), np.array([[[1.0], [0.0]], [[0.0], [1.0]]]))
    u, labels, groups = {}, {}, {}
    for split in ("train", "val", "test"):
        labels[split], groups[split] = generator.integers(2, size=(2, 400))
        signal = np.where(split == "train", groups[split], generator.permutation(groups[split]))
        u[split] = np.ones((400, 3), dtype=np.float32)
        u[split][:, :2] = generator.normal(size=(400, 2))
        u[split][np.arange(400), labels[split]] = signal  # a column for each class
    told = measures.predictor_leakage(predictor, u, labels, groups)
    assert told["predictor_auc_in_data"] == 1.0
    assert abs(told["predictor_auc"] - 0.5) < 0.1  # 800 coins: 5 standard errors


def test_intervals_are_students() -> None:
    values = [0.1, 0.2, 0.4]
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    found = summary.interval(values)
    assert (found["low"], found["high"]) == pytest.approx(expected, abs=1e-12)
    for few in ([0.1], [0.1, 0.1]):
        assert summary.interval(few) == {"mean": 0.1, "low": None, "high": None}
    assert summary.interval([0.1, None]) == {"mean": None, "low": None, "high": None}


def test_points_pair_the_releases_seed_by_seed(tmp_path: Path) -> None:
    def training(release: str, seed: int, bias: float) -> dict[str, object]:
        quality = {measures.UTILITY: 0.9, measures.BIAS: bias}
        facts = {"method": "orth", "release": release, "epsilon": math.inf, "rank": 0, "weight": 2.0, "seed": seed}
        return {**facts, "metrics": quality, "leakage": {"floor_auc": 0.7}, "train_seconds": 1.0}

    # the seeds differ widely, the releases by a tenth each time
    rows = [
        training(release, seed, 0.1 * seed + extra)
        for seed in (1, 2, 3)
        for release, extra in (("moment", 0.0), ("randomized-response", 0.1))
    ]
    (difference,) = summary.paired(rows)
    assert difference[measures.BIAS] == pytest.approx({"mean": -0.1, "low": -0.1, "high": -0.1})
    found = summary.points(rows)
    assert [row["release"] for row in found] == ["moment", "randomized-response"]
    summary.write_csv(found, tmp_path / "frontier.csv")
    with (tmp_path / "frontier.csv").open(newline="") as stream:
        first, _ = csv.DictReader(stream)
    assert first["epsilon"] == "inf"
    assert float(first["equalized_odds_difference_mean"]) == pytest.approx(0.2)
