"""Regressions: means and errors from sums in fixed point, against plain arithmetic and fairlearn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as skm
from fairlearn.metrics import MetricFrame, mean_prediction

from secure_fair.audit.layout import Layout
from secure_fair.audit.predictions import Predictions, read_predictions
from secure_fair.audit.regression import regression_result
from secure_fair.audit.release import AuditPlan
from secure_fair.audit.result import Opened
from secure_fair.errors import DataError, SettingsError
from secure_fair.sections import AuditSettings

LOW, HIGH = -20.0, 80.0
N = 500


def drawn() -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(2)
    label, groups = generator.uniform(LOW, HIGH, N), generator.integers(0, 3, N)
    return label, np.clip(label + generator.normal(groups, 5, N), LOW, HIGH), groups


def read(folder: Path, label: Any, prediction: Any, **options: Any) -> Predictions:
    file = folder / "p.csv"
    rows = "".join(f"r{i:04d},{y!r},{p!r}\n" for i, (y, p) in enumerate(zip(label, prediction, strict=True)))
    file.write_text("id,label,prediction\n" + rows)
    return read_predictions(AuditSettings(predictions=file, range=(LOW, HIGH), **options))


def test_means_and_errors_by_group(tmp_path: Path) -> None:
    label, prediction, groups = drawn()
    found = read(tmp_path, label.tolist(), prediction.tolist())
    assert found.layout == Layout(0, 0, 16)
    rows = found.layout.rows(found.labels, found.other)
    counts = np.array([rows[groups == g].sum(axis=0) for g in range(3)], dtype=np.float64)
    opened = Opened(counts, np.ones(counts.shape, dtype=bool), rows.sum(axis=0).astype(np.float64), 0.0)
    result = regression_result(opened, found.layout, ["a", "b", "c"], LOW, HIGH)
    step = (HIGH - LOW) / 2**16
    for name, metric, tolerance in (
        ("mean_prediction", mean_prediction, step / 2),
        ("mean_absolute_error", skm.mean_absolute_error, step),
        ("mean_squared_error", skm.mean_squared_error, 2 * step * (HIGH - LOW)),
    ):
        frame = MetricFrame(metrics=metric, y_true=label, y_pred=prediction, sensitive_features=groups)
        for g, group in enumerate("abc"):
            assert abs(result["by_group"][group][name] - frame.by_group[g]) <= tolerance
        assert abs(result["overall"][name] - frame.overall) <= tolerance
        assert abs(result["metrics"][f"{name}_difference"] - frame.difference()) <= 2 * tolerance
    assert [result["by_group"][g]["count"] for g in "abc"] == [(groups == g).sum() for g in range(3)]


def test_a_small_group_is_hidden_as_a_whole() -> None:
    layout = Layout(0, 0, 10)
    counts = np.array([[30 << 10, 5, 5, 5, 5], [3 << 10, 9 << 10, 9 << 10, 0, 0]], dtype=np.float64)
    people = layout.people(counts)
    assert people.tolist() == [[30.0] * 5, [3.0] * 5]


def test_nobody_moves_the_sums_further() -> None:
    layout = Layout(0, 0, 8)
    ends = np.array([0, 128, 256], dtype=np.uint32)
    rows = np.vstack([layout.rows(np.full(3, y, np.uint32), ends) for y in ends]).astype(float)
    furthest = max(np.linalg.norm(np.outer([1, -1], row)) for row in rows)
    assert AuditPlan(layout, (2,), 100, 1).sensitivity >= furthest


def test_more_records_have_fewer_bits() -> None:
    """A sum of the largest values, and 2^30 for noise, fits the ring."""
    for n in (1, 1000, 10**6):
        bits = min(16, 30 - n.bit_length())
        AuditPlan(Layout(0, 0, bits), (4,), n, 1).require_range(2.0**20)


@pytest.mark.parametrize(
    ("value", "told"), [(81.0, "label 81 is outside the range -20 to 80"), (float("nan"), "not a finite")]
)
def test_bad_numbers_are_refused(tmp_path: Path, value: float, told: str) -> None:
    with pytest.raises(DataError, match=f"row 3: label .*{told.removeprefix('label ')}"):
        read(tmp_path, [1.0, value], [1.0, 2.0])


def test_a_regression_has_no_threshold(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no threshold"):
        read(tmp_path, [1.0], [1.0], threshold=0.5)
    with pytest.raises(ValueError, match="the lower one first"):
        AuditSettings(range=(1.0, 1.0))
