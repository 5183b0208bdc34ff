"""When a user is warned of a run."""

from __future__ import annotations

from typing import Any

import pytest

from secure_fair.fairness.verdict import FEW, cells, few_records, warnings

ERM = {"balanced_accuracy": 0.87, "equalized_odds_difference": 0.2}


@pytest.mark.parametrize(
    ("utility", "bias", "said"),
    [
        (0.86, 0.1, []),
        (0.51, 0.0, ["hardly above guessing"]),
        (0.7, 0.1, ["fell from ERM's 0.870 to 0.700"]),
        (0.87, 0.3, ["rose from ERM's 0.200 to 0.300"]),
        (0.7, 0.3, ["fell from", "rose from"]),
        (0.87, None, []),
        (None, None, []),
    ],
)
def test_against_erm(utility: float | None, bias: float | None, said: list[str]) -> None:
    found = warnings({"balanced_accuracy": utility, "equalized_odds_difference": bias}, 2, ERM)
    assert len(found) == len(said)
    assert all(part in text for part, text in zip(said, found, strict=True))


def test_alone_only_guessing_is_seen() -> None:
    assert not warnings({"balanced_accuracy": 0.4, "equalized_odds_difference": 0.9}, 3)
    assert warnings({"balanced_accuracy": 0.36, "equalized_odds_difference": 0.0}, 3)
    assert not warnings({"balanced_accuracy": 0.6}, 2)  # no attributes, no bias


def test_cells_of_few_records_are_named_with_their_counts() -> None:
    (text,) = few_records({"Male=no, label no": FEW, "Male=no, label yes": FEW - 1, "Male=yes, label no": 0})
    assert "Male=no, label yes (9); Male=yes, label no (0):" in text
    assert "Male=no, label no" not in text
    assert not few_records({"Male=no, label no": FEW})


GROUPS: dict[str, Any] = {"no": {"count": 7, "positives": 3}, "yes": {"count": 40, "positives": 28}}
ROW: dict[str, Any] = {
    "classes": ["calm", "smiling"],
    "config": {"attributes": {"columns": ["Male"]}},
    "metrics": {"by_group": GROUPS},
}
CELLS = {
    "Male=no, label calm": 4,
    "Male=no, label smiling": 3,
    "Male=yes, label calm": 12,
    "Male=yes, label smiling": 28,
}


def test_the_cells_of_a_summary() -> None:
    assert cells(ROW) == CELLS
    several = {"Male": {"by_group": GROUPS}, "Young": {"by_group": {"old": {"count": 6, "positives": [1, 2, 3]}}}}
    found = cells({**ROW, "classes": ["a", "b", "c"], "metrics_by_attribute": {"Young": several["Young"]}})
    assert found == {"Young=old, label a": 1, "Young=old, label b": 2, "Young=old, label c": 3}
    assert cells({**ROW, "metrics_by_attribute": {"Male": several["Male"]}}) == CELLS


def test_a_summary_without_groups_or_counts_has_no_cells() -> None:
    assert cells({**ROW, "metrics": {}}) == {}
    assert cells({**ROW, "config": {"attributes": {"columns": []}}}) == {}
    assert cells({**ROW, "metrics": {"by_group": {"no": {"count": 7}}}}) == {}
    assert cells({key: value for key, value in ROW.items() if key != "classes"}) == {}
