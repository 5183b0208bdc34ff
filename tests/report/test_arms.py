"""Arms of a comparison: means, paired differences and overhead, by hand; the CSV; the printed table."""

from __future__ import annotations

import csv
from dataclasses import astuple
from pathlib import Path

import pytest

from secure_fair.cli.arms_table import WIDTH, print_arms
from secure_fair.report.arms import COLUMNS, Arm, group, privacy, reference, summarise, twin, unkept, write_csv
from tests.report.world import demo_rows, seeded, shared

ODDS = "equalized_odds_difference"


def test_rows_fall_into_arms_with_their_twins() -> None:
    arms = group(seeded(demo_rows(), 3))
    assert [arm.name for arm in arms] == [
        "erm, plaintext",
        "orth, plaintext",
        "orth, gradient",
        "orth, moment",
        "orth, randomized-response",
    ]
    assert all(arm.seeds == (0, 1, 2) for arm in arms)
    assert reference(arms) is arms[0]
    assert [twin(arm, arms) for arm in arms] == [None, None, arms[1], arms[1], arms[1]]


def test_differences_are_paired_by_seed() -> None:
    """Both arms vary from seed to seed, their difference does not: the paired interval has no width."""
    rows = seeded(demo_rows(), 3)
    erm, plain, *_ = group(rows)
    expected = rows[1]["metrics"][ODDS] - rows[0]["metrics"][ODDS]
    change, alone = plain.minus(erm, ODDS), plain.metric(ODDS)
    assert change is not None
    assert alone is not None
    assert (change.mean, change.low, change.high) == pytest.approx((expected,) * 3)
    assert alone.half is not None
    assert alone.half > 0.02


def test_a_seed_that_one_arm_lacks_is_left_out() -> None:
    rows = seeded(demo_rows(), 3)
    erm, plain, *_ = group([row for row in rows if (row["method"], row["seed"]) != ("erm", 2)])
    change = plain.minus(erm, ODDS)
    assert change is not None
    assert change.n == 2


def test_overhead_is_per_step() -> None:
    rows = demo_rows()
    rows[2]["cost"] |= {"train_seconds": 30.0, "steps": 10}
    rows[1]["cost"] |= {"train_seconds": 10.0, "steps": 5}
    _, plain, gradient, *_ = group(rows)
    found = gradient.overhead(plain)
    assert found is not None
    assert found.mean == pytest.approx(1.5)


def test_epsilon_adds_up_and_no_bound_stays_none() -> None:
    arms = group(seeded(demo_rows(), 2))
    assert arms[2].epsilon is None
    assert arms[3].epsilon == pytest.approx(4.0, abs=1e-6)
    assert total(arms[3]) == pytest.approx((4.0, 2e-5, 2))  # each seed's delta, too


def total(arm: Arm) -> tuple[float, ...]:
    assert arm.spent is not None
    return astuple(arm.spent)


def test_a_release_that_serves_several_rows_counts_once_and_never_for_nothing() -> None:
    """Of two seeds and two methods: each arm shows the epsilon that bounds it, all together have spent it once."""
    rows = shared(demo_rows())
    moments = [arm for arm in group(rows) if arm.release == "moment"]
    assert [arm.name for arm in moments] == ["orth, moment", "adv, moment"]
    for arm in moments:
        assert arm.reused
        assert total(arm) == pytest.approx((2.0, 1e-5, 1))
    together = privacy(rows)
    assert together.pop("unbounded") == ["orth, gradient"]
    assert together == {"epsilon": pytest.approx(6.0, abs=1e-6), "delta": pytest.approx(3e-5), "releases": 3}
    alone = privacy([row for row in rows if row["release"] == "none"])
    assert alone == {"epsilon": 0.0, "delta": 0.0, "releases": 0, "unbounded": []}


def test_the_summary_has_what_the_contract_names() -> None:
    blocks = summarise(seeded(demo_rows(), 2))
    assert blocks[0]["minus_erm"] == {}
    assert set(blocks[2]["minus_erm"]) == set(blocks[2]["minus_plaintext"]) == set(blocks[2]["metrics"])
    assert blocks[2]["minus_plaintext"][ODDS]["mean"] == pytest.approx(0.0, abs=1e-12)
    assert blocks[2]["overhead"]["n"] == 2
    assert blocks[1]["overhead"] is None


def test_the_csv_has_a_line_a_run(tmp_path: Path) -> None:
    rows = demo_rows()
    write_csv(rows, tmp_path / "compare.csv")
    with (tmp_path / "compare.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [*found[0]] == [*COLUMNS]
    assert len(found) == len(rows)
    assert float(found[2][ODDS]) == rows[2]["metrics"][ODDS]
    assert found[0]["epsilon"] == found[2]["epsilon"] == ""
    write_csv(shared(rows), tmp_path / "compare.csv")
    with (tmp_path / "compare.csv").open(newline="") as stream:
        reused = [row for row in csv.DictReader(stream) if row["reused"]]
    assert {(row["reused"], float(row["delta"])) for row in reused} == {("runs/3", 1e-5)}
    assert [float(row["epsilon"]) for row in reused] == [pytest.approx(2.0, abs=1e-6)] * len(reused)
    assert [path.name for path in tmp_path.iterdir()] == ["compare.csv"]


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_the_table_fits_into_100_columns(seeds: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows = seeded(demo_rows(), seeds)
    for row in rows:
        if row["release"] == "gradient":  # the longest names that there are
            row |= {"method": "orth-adapter", "release": "adapter-gradient"}
    print_arms({"rows": rows}, "a title")
    text = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH
    assert "orth-adapter, adapter-gradient" in text
    assert ("\u00b1" in text) is (seeds > 2)
    assert ("2 seeds are too few for an interval" in text) is (seeds == 2)


@pytest.mark.parametrize("kept", [True, False])
def test_columns_that_stay_empty_name_the_setting(kept: bool, capsys: pytest.CaptureFixture[str]) -> None:
    rows = demo_rows()
    for row in rows[2:]:
        row["config"]["privacy"]["store_values"] = kept
        if not kept:
            del row["leakage"]
    print_arms({"rows": rows}, "a title")
    text = capsys.readouterr().out
    assert ("privacy.store_values = true" in text) is not kept
    assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH
    assert unkept(rows) is not kept
    assert not unkept(rows[:2])  # plaintext
