"""The sweep in small: real trainings, and a choice that obeys its rule."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sweep import choice
from benchmarks.sweep.__main__ import finished as log_of
from benchmarks.sweep.__main__ import run, write
from benchmarks.sweep.grid import AXES, BASE, RANK, RATE, WEIGHT, Arm, Axis, Sweep
from benchmarks.sweep.trainings import Seed
from secure_fair.errors import RunError
from secure_fair.settings import Settings
from secure_fair.training.baseline import run_plaintext
from secure_fair.training.run_folder import read_table
from secure_fair.training.summary import group_metrics

pytestmark = pytest.mark.timeout(600)  # many small trainings, beside whatever else the machine does
DEFAULT_RATE = Settings().training.learning_rate
SMALL = Sweep(
    seeds=2,
    images=160,
    axes=(
        Axis(RATE, (DEFAULT_RATE, 1e-2), "erm"),
        Axis(WEIGHT, (0.1, 1.0), "orth-adapter"),
        Axis(WEIGHT, (1.0, 10000.0), "orth", "moment"),
    ),
    base={**BASE, RATE: 1e-2, "model.weights": "random", "training.epochs": 1, "training.batch_size": 16},
)
TRAININGS = 2 * 6


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("sweep")
    told: list[str] = []
    rows = [row for seed in (0, 1) for row in run(SMALL, seed, folder / "work", told.append)]
    assert len(told) == TRAININGS
    write(SMALL, folder / "results" / "sweep.json", rows)
    return folder


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results" / "sweep.json").read_text())
    return found


def test_the_file_has_every_training_and_how_it_was_made(finished: Path) -> None:
    found = result(finished)
    assert {(row["seed"], row["arm"]) for row in found["rows"]} == {
        (seed, arm)
        for seed in (0, 1)
        for arm in (
            "erm plaintext",
            f"erm plaintext training.learning_rate={DEFAULT_RATE}",
            "orth-adapter plaintext fairness.weight=0.1",
            "orth-adapter plaintext",
            "orth moment fairness.weight=1.0",
            "orth moment",
        )
    }
    assert all(0 <= row[split][name] <= 1 for row in found["rows"] for split in ("val", "test") for name in row[split])
    assert {"command", "commit", "versions", "processor"} <= set(found["environment"])
    assert found["base"] == dict(SMALL.base)
    assert str(finished) not in (finished / "results" / "sweep.json").read_text()
    for line in found["lines"]:
        rows = [row for row in found["rows"] if row["arm"] == _name(line)]
        for split in ("val", "test"):
            mean = statistics.fmean(row[split]["equalized_odds_difference"] for row in rows)
            assert line[split]["equalized_odds_difference"]["mean"] == pytest.approx(mean)
            assert line[split]["equalized_odds_difference"]["n"] == 2


def _name(line: dict[str, Any]) -> str:
    axis = next(axis for axis in SMALL.axes if axis.method == line["method"])
    return axis.arm(line["value"], SMALL.base).name


def test_a_row_is_what_training_by_hand_gives(finished: Path, tmp_path: Path) -> None:
    arm = Arm("erm", None, RATE, DEFAULT_RATE)
    own = Seed(SMALL, 1, finished / "work").settings(arm)
    assert own.training.learning_rate == DEFAULT_RATE
    run_plaintext(own, "erm", own.attributes.file, tmp_path / "run", lambda *_: None)
    assert own.attributes.file is not None
    table = read_table(own.attributes.file, ("Male",))
    by_hand = {
        split: group_metrics(tmp_path / "run" / "developer" / "predictions.csv", table, "Male", split)
        for split in ("val", "test")
    }
    (row,) = (row for row in result(finished)["rows"] if (row["seed"], row["arm"]) == (1, arm.name))
    for split, metrics in by_hand.items():
        assert row[split] == {name: metrics[name] for name in row[split]}


def test_what_is_finished_is_not_done_again(finished: Path) -> None:
    log = finished / "work" / "seed-1.json"
    before = json.loads(log.read_text())
    told: list[str] = []
    assert run(SMALL, 1, finished / "work", told.append) == before["rows"]
    assert told == []
    log.write_text(json.dumps({**before, "rows": before["rows"][:-1]}))
    again = run(SMALL, 1, finished / "work", told.append)
    assert len(told) == 1
    assert again[:-1] == before["rows"][:-1]
    assert log_of(SMALL, 1, finished / "work") == again
    with pytest.raises(RunError, match=r"orth, fairness\.weight: no seed has every value"):
        write(SMALL, finished / "sweep.json", again[:-1])
    assert not (finished / "sweep.json").exists()
    with pytest.raises(RunError, match="another base"):
        run(Sweep(images=160), 1, finished / "work", told.append)


SWEEP = Sweep(seeds=2, axes=(Axis(RANK, (4, 8, 16), "orth"), Axis(RANK, (4, 8, 16), "erm")))


def rows(arms: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """Arm -> (balanced accuracy, equalized-odds difference) of each seed; the test split says the opposite."""
    return [
        {"seed": seed, "arm": arm, "val": _metrics(*values), "test": _metrics(1 - values[0], 1 - values[1])}
        for arm, seeds in arms.items()
        for seed, values in enumerate(seeds)
    ]


def _metrics(utility: float, bias: float) -> dict[str, float]:
    rest = {"demographic_parity_difference": 0.0, "worst_group_accuracy": 0.0}
    return {"balanced_accuracy": utility, "equalized_odds_difference": bias, **rest}


@pytest.mark.parametrize(
    ("rank_4", "rank_16", "taken", "clear"),
    [
        ([(0.90, 0.20), (0.90, 0.20)], [(0.90, 0.05), (0.90, 0.07)], 16, True),  # better in both seeds
        ([(0.90, 0.20), (0.90, 0.20)], [(0.90, 0.02), (0.90, 0.11)], 16, False),  # better in one of two
        ([(0.90, 0.20), (0.90, 0.20)], [(0.90, 0.09), (0.90, 0.09)], 16, False),  # by less than CLEAR
        ([(0.85, 0.00), (0.85, 0.00)], [(0.90, 0.30), (0.90, 0.30)], 8, False),  # less biased, and too bad at the task
    ],
)
def test_the_rule(
    rank_4: list[tuple[float, float]], rank_16: list[tuple[float, float]], taken: int, clear: bool
) -> None:
    erm = [(0.9, 0.3), (0.9, 0.3)]
    base = {"erm plaintext": erm, "erm plaintext lora.rank=4": erm, "erm plaintext lora.rank=16": erm}
    own = {"orth plaintext lora.rank=4": rank_4, "orth plaintext lora.rank=16": rank_16}
    orth, _ = choice.choices(SWEEP, rows({**base, **own, "orth plaintext": [(0.9, 0.1), (0.9, 0.1)]}))
    assert (orth["default"], orth["taken"], orth["clear"]) == (8, taken, clear)


def test_only_seeds_with_every_value_are_compared() -> None:
    """A second seed without one of the values would shift the others; and one seed makes nothing clear."""
    erm = [(0.9, 0.3), (0.5, 0.9)]
    base = {"erm plaintext": erm, "erm plaintext lora.rank=4": erm, "erm plaintext lora.rank=16": erm}
    own = {"orth plaintext": [(0.9, 0.2), (0.9, 0.9)], "orth plaintext lora.rank=4": [(0.9, 0.1), (0.9, 0.9)]}
    given = rows({**base, **own, "orth plaintext lora.rank=16": [(0.9, 0.3)]})
    orth, unaware = choice.choices(SWEEP, given)
    assert (orth["taken"], orth["seeds"], orth["gain"], orth["clear"]) == (4, 1, pytest.approx(0.1), False)
    assert unaware["seeds"] == 2
    found = {(line["method"], line["value"]): line for line in choice.lines(SWEEP, given)}
    assert found["orth", 8]["test"]["equalized_odds_difference"]["mean"] == pytest.approx(0.8)
    assert found["erm", 8]["val"]["equalized_odds_difference"]["mean"] == pytest.approx(0.6)


def test_a_default_that_loses_the_task_is_clearly_worse() -> None:
    good, bad = [(0.9, 0.3), (0.9, 0.3)], [(0.5, 0.0), (0.5, 0.0)]
    erm = {"erm plaintext": good, "erm plaintext lora.rank=4": [(0.93, 0.3), (0.94, 0.3)]}
    orth = {"orth plaintext": bad, "orth plaintext lora.rank=4": good, "orth plaintext lora.rank=16": bad}
    found = choice.choices(SWEEP, rows({**erm, **orth, "erm plaintext lora.rank=16": good}))
    assert [(each["taken"], each["decided_by"], each["clear"]) for each in found] == [
        (4, "equalized_odds_difference", True),
        (4, "balanced_accuracy", True),
    ]


def test_each_axis_has_the_default_among_its_values() -> None:
    """Else nothing could be said of it."""
    for axis in AXES:
        assert axis.default in axis.values, axis
    assert {axis.setting for axis in AXES} == {WEIGHT, RATE, RANK, "lora.targets"}
    assert Settings().lora.targets == next(axis.default for axis in AXES if axis.setting == "lora.targets")
