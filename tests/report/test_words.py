"""What the page says of a release: never more protection than there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_fair.errors import RunError
from secure_fair.fairness.methods import METHODS
from secure_fair.report import material, page, words
from secure_fair.report.arms import Arm
from secure_fair.report.palette import RELEASES
from secure_fair.settings import SENSITIVE
from tests.report.outline import Outline
from tests.report.world import comparison, demo_rows, shared


def test_a_reused_release_is_bounded_by_what_it_has_cost(tmp_path: Path) -> None:
    """In the sentences, the table at a glance, the cards and the table of privacy; never epsilon 0."""
    rows = shared(demo_rows())
    found = material.load(comparison(tmp_path / "cmp", rows))
    text = " ".join(Outline(page.render(found)).text.split())
    assert "bounded by epsilon 0" not in text
    assert text.count("is bounded by epsilon 2,") == 2  # orth, moment and adv, moment
    (spent,) = [table for table in Outline(page.render(found)).tables if "counted" in table[0]]
    assert [row[1:3] + row[5:] for row in spent if "moment" in row[0]] == [
        ["2", "1e-05", "once for all seeds"],
        ["2", "1e-05", "once, as another arm\u2019s"],
    ]
    assert [row[1:3] for row in spent if "gradient" in row[0]] == [["no bound", "\u2013"]]
    assert [row[1:3] for row in spent if "randomized" in row[0]] == [["4", "2e-05"]]  # two releases, one a seed
    assert "together: epsilon 6 and delta 3e-05" in text
    rows[-1]["privacy"] = {"epsilon": 0.0, "delta": 0.0, "releases": 0, "reused": "runs/3"}  # of an older version
    with pytest.raises(RunError, match="does not say what the release it reuses has cost"):
        material.load(comparison(tmp_path / "old", rows))


def test_an_unknown_release_counts_as_no_protection(tmp_path: Path) -> None:
    rows = demo_rows()
    rows[3]["release"] = "telepathy"
    text = page.render(material.load(comparison(tmp_path / "cmp", rows)))
    assert "A release that this report does not know" in text
    assert "orth, telepathy: a difference of" in text
    assert "no protection" in text.split("orth, telepathy: a difference of")[1][:300]


def test_a_bound_that_bounds_nothing_is_not_sold_as_one(tmp_path: Path) -> None:
    rows = demo_rows()
    bounded = page.render(material.load(comparison(tmp_path / "two", rows)))
    assert "bounded in name only" not in bounded
    assert rows[3]["release"] == "moment"
    rows[3]["privacy"]["epsilon"] = 1e5
    text = page.render(material.load(comparison(tmp_path / "large", rows)))
    assert "bounded in name only" in text
    told = text.split("orth, moment: a difference of")[1][:400]
    assert "Epsilon 100,000 rules out next to nothing: count the people as not protected." in told


def test_the_dealer_and_the_people_are_those_of_the_release(tmp_path: Path) -> None:
    """A predictor needs no dealer, and was made from nobody among the developer's people."""
    rows = [row for row in demo_rows() if row["release"] == "moment"]
    assert "Together with either other" in page.render(material.load(comparison(tmp_path / "moment", rows)))
    for row in rows:
        row["release"] = "predictor"
        row["leakage"]["attribute_recovery"] |= {"in_release": False, "bound": None}
    text = page.render(material.load(comparison(tmp_path / "predictor", rows)))
    assert "No dealer took part" in text
    assert "Together with either other" not in text
    assert "the release was made from none of them" in text
    assert "not in the release" in text


def test_every_release_that_there_is_has_a_reading() -> None:
    unknown = words.reading(Arm("orth", "telepathy", True, ()))
    for method in METHODS.values():
        for release in method.releases:
            found = words.reading(Arm(method.name, release, release != "none", ()))
            assert found is not unknown, (method.name, release)
            assert (found.severity == "bounded") is (release in ("moment", "randomized-response"))
            assert bool(found.assumption) is (found.severity == "bounded")
            assert release in (*RELEASES, "none")


def test_a_private_adapter_is_bounded_for_the_auditors_people_only() -> None:
    """By what the run has spent: without an epsilon it is what it was."""
    for release in SENSITIVE:
        private = words.reading(
            Arm("unl", release, True, ({"privacy": {"epsilon": 2.0, "delta": 1e-5, "releases": 1}},))
        )
        assert (private.severity, "auditor" in private.verdict) == ("bounded", True)
        assert "floating-point" in private.assumption
        assert (
            words.reading(
                Arm("unl", release, True, ({"privacy": {"epsilon": None, "delta": 1e-5, "releases": 1}},))
            ).severity
            == "exposed"
        )
