"""When a user is warned of a run."""

from __future__ import annotations

import pytest

from secure_fair.fairness.verdict import warnings

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
