"""Metrics from counts against fairlearn's own on the same records."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as skm
from fairlearn import metrics as fairlearn
from numpy.typing import NDArray

from secure_fair.audit import metrics
from secure_fair.audit.layout import Layout
from secure_fair.audit.result import Opened, attribute_result
from secure_fair.errors import RefusedError

TOLERANCE = 1e-12
Codes = NDArray[np.uint8]

RATES: dict[str, Callable[..., float]] = {
    "selection_rate": fairlearn.selection_rate,
    "true_positive_rate": fairlearn.true_positive_rate,
    "true_negative_rate": fairlearn.true_negative_rate,
    "false_positive_rate": fairlearn.false_positive_rate,
    "false_negative_rate": fairlearn.false_negative_rate,
    "accuracy_score": skm.accuracy_score,
    "zero_one_loss": skm.zero_one_loss,
    "precision_score": skm.precision_score,
    "recall_score": skm.recall_score,
    "f1_score": skm.f1_score,
    "balanced_accuracy_score": skm.balanced_accuracy_score,
}
# What must be among the labels (y) or the predictions (p) of a group for the rate to have a denominator.
NEEDS = {
    "true_positive_rate": "y1",
    "true_negative_rate": "y0",
    "false_positive_rate": "y0",
    "false_negative_rate": "y1",
    "precision_score": "p1",
    "recall_score": "y1",
    "f1_score": "y1 or p1",
    "balanced_accuracy_score": "y0 and y1",
}


def defined(rate: str) -> Callable[[Any, Any], float]:
    """fairlearn's rate, NaN without a denominator, where fairlearn gives 0."""

    def guarded(y: Any, p: Any) -> float:
        has = {"y0": (y == 0).any(), "y1": (y == 1).any(), "p1": (p == 1).any()}
        need = NEEDS.get(rate, "")
        known = (
            any(has[n] for n in need.split(" or ")) if " or " in need else all(has[n] for n in need.split(" and ") if n)
        )
        return float(RATES[rate](y, p)) if known else float("nan")

    guarded.__name__ = rate
    return guarded


def table(seed: int, classes: int = 2) -> tuple[Codes, Codes, Codes, int]:
    """Random labels, predictions and groups; some groups lack a class, some are empty, up to six."""
    generator = np.random.default_rng(seed)
    n, k = int(generator.integers(2, 120)), int(generator.integers(2, 7))
    groups = generator.choice(k, n, p=generator.dirichlet(np.full(k, 0.7))).astype(np.uint8)
    chances = generator.dirichlet(np.full(classes, 0.6), size=(k, classes))
    y = np.array([generator.choice(classes, p=chances[g].mean(axis=0)) for g in groups], dtype=np.uint8)
    p = np.array([generator.choice(classes, p=chances[g, label]) for g, label in zip(groups, y, strict=True)])
    return y, p.astype(np.uint8), groups, k


def audited(y: Codes, p: Codes, groups: Codes, k: int, classes: int = 2) -> dict[str, Any]:
    """What an audit that shows everything reports."""
    layout = Layout(classes)
    rows = layout.rows(y, p)
    counts = np.array([rows[groups == g].sum(axis=0) for g in range(k)], dtype=np.float64)
    opened = Opened(counts, np.ones(counts.shape, dtype=bool), rows.sum(axis=0, dtype=np.float64), 0.0)
    return attribute_result(opened, layout, [str(c) for c in range(classes)], [f"g{g}" for g in range(k)])


def frame(y: Any, p: Any, groups: Codes) -> Any:
    members = np.array([f"g{g}" for g in groups])
    rates = {rate: defined(rate) for rate in RATES}
    return fairlearn.MetricFrame(metrics=rates, y_true=y, y_pred=p, sensitive_features=members)


def close(found: float, expected: float) -> bool:
    return bool(np.isclose(found, expected, rtol=0, atol=TOLERANCE, equal_nan=True))


def few(cases: int, quick: int) -> list[Any]:
    """A fairlearn frame takes a third of a second: most cases run with the slow tests."""
    return [pytest.param(n, marks=[] if n < quick else pytest.mark.slow) for n in range(cases)]


@pytest.mark.parametrize("block", few(20, 1))
def test_binary_metrics_are_fairlearns(block: int) -> None:
    """200 tables in twenty blocks."""
    for seed in range(10 * block, 10 * block + 10):
        y, p, groups, k = table(seed)
        found = audited(y, p, groups, k)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sklearn's, about groups with one class
            expected = frame(y, p, groups)
            aggregates = {
                "group_min": expected.group_min(),
                "group_max": expected.group_max(),
                "difference": expected.difference(),
                "difference_to_overall": expected.difference(method="to_overall"),
                "ratio": expected.ratio(),
                "ratio_to_overall": expected.ratio(method="to_overall"),
            }
        for rate in RATES:
            assert close(found["overall"][rate], expected.overall[rate]), (seed, rate)
            for g in range(k):
                own = expected.by_group[rate].get(f"g{g}", np.nan)  # no record: no row
                assert close(found["by_group"][f"g{g}"][rate], own), (seed, rate, g)
            for aggregate, values in aggregates.items():
                assert close(found["metrics"][f"{rate}_{aggregate}"], values[rate]), (seed, rate, aggregate)
        for g in range(k):
            assert found["by_group"][f"g{g}"]["count"] == (groups == g).sum()


@pytest.mark.parametrize("seed", few(40, 4))
def test_parity_metrics_are_fairlearns_functions(seed: int) -> None:
    """Where every group has both classes, fairlearn's own functions can be called as they are."""
    generator = np.random.default_rng(seed)
    k = int(generator.integers(2, 7))
    y = np.tile([0, 1, 0, 1], 10 * k).astype(np.uint8)
    groups = np.repeat(np.arange(k), 40).astype(np.uint8)
    p = (generator.random(len(y)) < 0.2 + 0.5 * y * generator.random(k)[groups]).astype(np.uint8)
    found = audited(y, p, groups, k)["metrics"]
    given = {"y_true": y, "y_pred": p, "sensitive_features": groups}
    for parity in ("demographic_parity", "equalized_odds", "equal_opportunity"):
        for aggregate in ("difference", "ratio"):
            function = getattr(fairlearn, f"{parity}_{aggregate}")
            assert close(found[f"{parity}_{aggregate}"], function(**given))
            assert close(found[f"{parity}_{aggregate}_to_overall"], function(**given, method="to_overall"))
    for name in ("accuracy_score_group_min", "f1_score_group_min", "zero_one_loss_group_max", "selection_rate_ratio"):
        assert close(found[name], getattr(fairlearn, name)(**given))


@pytest.mark.parametrize("seed", few(30, 4))
def test_several_classes_are_one_against_the_rest(seed: int) -> None:
    classes = 3 + seed % 4
    y, p, groups, k = table(1000 + seed, classes)
    found = audited(y, p, groups, k, classes)
    worst: dict[str, list[float]] = {}
    for c in range(classes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = frame((y == c).astype(int), (p == c).astype(int), groups)
            differences, ratios = expected.difference(), expected.ratio()
        for rate in ("selection_rate", "true_positive_rate", "false_positive_rate", "precision_score", "f1_score"):
            for g in range(k):
                own = expected.by_group[rate].get(f"g{g}", np.nan)
                assert close(found["by_group"][f"g{g}"][rate][str(c)], own)
            assert close(found["by_class"][str(c)][f"{rate}_difference"], differences[rate])
            assert close(found["by_class"][str(c)][f"{rate}_ratio"], ratios[rate])
            worst.setdefault(f"{rate}_difference", []).append(differences[rate])
    for name, values in worst.items():
        assert close(found["metrics"][name], float(np.max(values)))  # NaN if one of them is
    accuracy = fairlearn.MetricFrame(metrics=skm.accuracy_score, y_true=y, y_pred=p, sensitive_features=groups)
    assert close(found["metrics"]["accuracy_score_difference"], accuracy.difference())
    assert close(found["overall"]["accuracy_score"], accuracy.overall)


def test_fairlearn_would_refuse_or_mislead() -> None:
    """Why several classes are done here: its rates refuse them, its demographic parity takes class 1 alone."""
    y, p, groups = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 1, 2, 2, 1, 0]), np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match="pos_label"):
        fairlearn.equalized_odds_difference(y, p, sensitive_features=groups)
    assert fairlearn.demographic_parity_difference(y, p, sensitive_features=groups) == 0.0


def test_a_rate_without_a_denominator_is_nan() -> None:
    y, p, groups = (np.array(x, dtype=np.uint8) for x in ([0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]))
    found = audited(y, p, groups, 3)
    assert np.isnan(found["by_group"]["g0"]["true_positive_rate"])
    assert found["by_group"]["g1"]["true_positive_rate"] == 1.0
    assert all(np.isnan(value) for rate, value in found["by_group"]["g2"].items() if rate != "count")
    assert found["by_group"]["g2"]["count"] == 0
    nobody = np.full(3, np.nan)
    assert all(np.isnan(value) for value in metrics.aggregates(nobody, 0.5).values())


def test_bins_hold_the_four_cells() -> None:
    """Of the same records, with the score's bins or without: the same rates."""
    generator = np.random.default_rng(3)
    y, bins = generator.integers(0, 2, 300).astype(np.uint8), generator.integers(0, 10, 300).astype(np.uint8)
    groups = generator.integers(0, 3, 300)
    plain, fine = Layout(2), Layout(2, bins=10)
    confusions = [
        np.array([layout.rows(y, other)[groups == g].sum(axis=0) for g in range(3)]) @ layout.confusion_matrix()
        for layout, other in ((plain, (bins >= 5).astype(np.uint8)), (fine, bins))
    ]
    assert np.array_equal(confusions[0], confusions[1])


@pytest.mark.parametrize("numbers", [(1,), (101,), (2, 3), (2, 52), (3, 4), (0, 0, 3), (0, 2, 8), (2, 0, 8)])
def test_a_layout_that_makes_no_sense_is_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(RefusedError, match="an audit of"):
        Layout(*numbers)
