"""The table's tests against scipy's, and the files that it writes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from secure_fair.report import experiment

FOUND = [0.012, -0.004, 0.007, 0.001]


def test_the_paired_test_is_students() -> None:
    expected = stats.ttest_rel(FOUND, [0.0] * 4).pvalue
    assert experiment.paired(FOUND) == pytest.approx(expected, rel=1e-12)
    assert experiment.paired([0.3]) is None
    assert (experiment.paired([0.1, 0.1]), experiment.paired([0.0, 0.0])) == (0.0, 1.0)


@pytest.mark.parametrize("margin", [0.002, 0.01, 0.05])
def test_equivalence_is_two_one_sided_tests(margin: float) -> None:
    below = stats.ttest_1samp(FOUND, -margin, alternative="greater").pvalue
    above = stats.ttest_1samp(FOUND, margin, alternative="less").pvalue
    assert experiment.equivalence(FOUND, margin) == pytest.approx(max(below, above), rel=1e-9)


def test_equal_arms_are_equivalent_and_different_or_noisy_ones_are_not() -> None:
    assert experiment.equivalence([0.0, 0.0, 0.0]) == 0.0
    assert experiment.equivalence([0.02, 0.02, 0.02]) == 1.0
    assert experiment.equivalence([0.03, -0.03, 0.0]) > 0.05  # no significant difference, and yet no equality
    assert experiment.equivalence([0.0]) == 1.0


def test_names_stay_names_in_latex() -> None:
    """Everything that TeX would read as a command, in a pair's name, becomes that character."""
    rows = [row("erm", "plaintext", 0, 0.8, 0.3) | {"pair": "a&b_50%$#{x}"}]
    assert r"a\&b\_50\%\$\#\{x\} & erm & plaintext & $80.0" in experiment.latex(experiment.lines({"rows": rows}))


def row(method: str, release: str, seed: int, accuracy: float, bias: float | None) -> dict[str, Any]:
    metrics = dict.fromkeys(experiment.METRICS, 0.5) | {
        "balanced_accuracy": accuracy,
        "equalized_odds_difference": bias,
    }
    arm = "plaintext" if release == "plaintext" else "secure"
    return {
        "pair": "a_b",
        "method": method,
        "release": release,
        "arm": arm,
        "seed": seed,
        "weight": 2.0,
        "metrics": metrics,
    }


def test_files(tmp_path: Path) -> None:
    rows = [row("erm", "plaintext", seed, 0.8 + seed / 100, 0.3) for seed in range(3)]
    rows += [row("orth", "plaintext", seed, 0.79 + seed / 100, 0.1 + seed / 50) for seed in range(3)]
    rows += [row("orth", "gradient", seed, 0.79 + seed / 100, 0.1 + seed / 50) for seed in range(3)]
    rows += [row("orth", "moment", seed, 0.7, None) for seed in range(3)]
    erm, plain, secure, private = experiment.write({"rows": rows, "rule": "the <rule>"}, tmp_path)
    assert erm.against_erm == {"balanced_accuracy": None, "equalized_odds_difference": None}
    assert plain.against_erm["balanced_accuracy"] == pytest.approx(0.0, abs=1e-12)  # one point less, always
    assert plain.equivalence is None
    assert secure.equivalence == 0.0
    assert private.estimates["equalized_odds_difference"] is None
    assert private.equivalence == 1.0
    with (tmp_path / "table.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [line["arm"] for line in table] == ["plaintext", "plaintext", "gradient", "moment"]
    assert table[1]["eq. odds difference"] == "0.1200"
    assert r"a\_b & orth & gradient & $80.0" in (tmp_path / "table.tex").read_text()
    page = (tmp_path / "table.html").read_text()
    assert "the &lt;rule&gt;" in page
    assert "<td>moment</td>" in page
