"""The whole command on a small grid with a random backbone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.frontier.measures import BIAS
from secure_fair.cli.bench import bench

pytestmark = pytest.mark.timeout(600)  # many small trainings, beside whatever else the machine does
TRAININGS = 2 * (3 + 2 * 2)  # seeds, references, no noise and a rank for each release


def frontier(out: Path, *more: str) -> Result:
    grid = ["--epsilons", "inf", "--ranks", "4", "--seeds", "2", "--images", "120"]
    small = ["--set", "model.weights=random", "--set", "training.epochs=1", "--set", "training.batch_size=16"]
    return CliRunner().invoke(bench, ["frontier", "--out", str(out), *grid, *small, *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("frontier")
    result = frontier(out)
    assert result.exit_code == 0, result.output
    return out


def lines(out: Path) -> list[str]:
    return (out / "work" / "trainings.jsonl").read_text().splitlines()


def test_results_hold_every_point_with_its_interval_and_environment(finished: Path) -> None:
    result: dict[str, Any] = json.loads((finished / "frontier.json").read_text())
    assert len(result["trainings"]) == len(lines(finished)) == TRAININGS
    assert len(result["rows"]) == TRAININGS // 2
    for row in result["rows"]:
        value = row["metrics"][BIAS]
        assert (value["low"], value["high"]) == (None, None)  # of two seeds
        assert ("predictor_auc" in row["leakage"]) == (row["release"] != "none")
    assert {row["epsilon"] for row in result["rows"]} == {0.0, 2.0, None}  # null: without noise, or exact
    assert {"command", "commit", "versions", "processor"} <= set(result["environment"])
    assert {row["seed"] for row in result["trainings"]} == {0, 1}
    assert {row["commit"] for row in result["trainings"]} == {result["environment"]["commit"]}
    assert (finished / "frontier.csv").read_text().count("\n") == 1 + len(result["rows"])
    assert (finished / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (finished / "frontier.svg").read_text()


def test_what_is_finished_is_not_done_again(finished: Path) -> None:
    log = finished / "work" / "trainings.jsonl"
    before = lines(finished)
    assert frontier(finished).exit_code == 0
    assert lines(finished) == before
    log.write_text("\n".join(before[:-1]) + "\n" + before[-1][:40])  # killed in the middle of a line
    again = frontier(finished, "--json")
    assert again.exit_code == 0, again.output
    assert lines(finished)[:-1] == before[:-1]
    redone, kept = json.loads(lines(finished)[-1]), json.loads(before[-1])
    assert redone["training"] == kept["training"]
    assert len(json.loads(again.stdout)["rows"]) == TRAININGS // 2


def test_other_settings_share_nothing(finished: Path) -> None:
    arguments = ("--set", "training.learning_rate=5e-3", "--seeds", "1", "--ranks", "0")
    before = len(lines(finished))
    assert (
        frontier(finished, *arguments, "--out", str(finished / "other"), "--work", str(finished / "work")).exit_code
        == 0
    )
    assert len(lines(finished)) == before + 3 + 2 * 2  # without noise, and rank 0 at epsilon 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--epsilons", "1,0"), "0.0 is not in the range"),
        (("--epsilons", "one"), "'one' is not a valid float"),
        (("--ranks", "-1"), "-1 is not in the range"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    result = frontier(tmp_path, *arguments)
    assert result.exit_code == 2
    assert told in result.output


def test_our_benchmarks_are_found_beside_crypten_s_of_the_same_name(tmp_path: Path) -> None:
    other = tmp_path / "benchmarks"
    other.mkdir()
    (other / "__init__.py").touch()
    code = "from secure_fair.cli.bench_tools import benchmark; print(benchmark('frontier.grid').Grid().seeds)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "3\n"


def test_a_release_every_epoch_is_refused(tmp_path: Path) -> None:
    result = frontier(tmp_path, "--set", "privacy.refresh=epoch")
    assert "privacy.refresh" in str(result.exception)
