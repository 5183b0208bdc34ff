"""A comparison over seeds with real parties: its files, its table, its page; complete arms are not run again."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import pytest

from parties.comparison import arms
from secure_fair.errors import SettingsError
from tests.parties.world import Command, write_settings

ARMS = ["erm-plaintext", "orth-plaintext", "orth-gradient", "orth-moment"]


def whole(arguments: list[str], log: Path) -> str:
    """Run a command to its good end, however many trainings that takes."""
    command = Command.start(arguments, log)
    try:
        assert command.wait(500) == 0, command.text
    finally:
        command.kill()
    return command.text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_seeds_side_by_side(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "cmp"
    command = [
        *("compare", "-c", str(write_settings(tmp_path / "settings.toml", data))),
        *("--releases", "gradient,moment", "--seeds", "2", "--out", str(out)),
        *("--set", "privacy.store_values=true", "--set", 'model.weights="demo"'),
    ]
    printed = whole(command, tmp_path / "log")
    assert "test split, 2 seeds" in printed
    assert "paired difference" in printed
    found = json.loads((out / "compare.json").read_text())
    assert [Path(row["run"]).name for row in found["rows"]] == [f"{arm}-seed{n}" for n in (0, 1) for arm in ARMS]
    assert found["environment"]["command"] == shlex.join(["secure-fair", *command])
    erm, plain, gradient, moment = found["arms"]
    assert erm["metrics"]["accuracy"]["n"] == gradient["minus_plaintext"]["accuracy"]["n"] == 2
    assert plain["minus_erm"]["equalized_odds_difference"]["low"] is not None
    assert abs(gradient["minus_plaintext"]["accuracy"]["mean"]) <= 1 / 40  # one of 40 test images may tip over
    assert moment["release_reused"]
    assert "release_reused" not in gradient
    epsilons = [row["privacy"]["epsilon"] for row in found["rows"] if row["release"] == "moment"]
    assert epsilons == [pytest.approx(2.0, abs=1e-6)] * 2  # the second seed's reused release says what it has cost
    assert found["privacy"] == {
        "epsilon": epsilons[0], "delta": 1e-5, "releases": 1, "unbounded": ["orth, gradient"]
    }  # fmt: skip
    with (out / "compare.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 8
    # What is complete is not run again, and serves a later seed as if nothing had come between.
    (out / "runs" / "orth-moment-seed1" / "summary.json").unlink()
    times = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/summary.json")}
    whole(command, tmp_path / "again")
    assert {file: file.stat().st_mtime_ns for file in times} == times
    again = json.loads((out / "compare.json").read_text())["rows"]
    assert [row["privacy"]["epsilon"] for row in again if row["release"] == "moment"] == epsilons
    whole(["report", str(out)], tmp_path / "report")
    page = (out / "report.html").read_text()
    for text in ("Training curves", "opened 5 times", "moment with noise: opened once", "once for all seeds"):
        assert text in page, text


@pytest.mark.parametrize(("method", "release"), [("orht", "gradient"), ("orth", "momnt")])
def test_a_name_that_nobody_knows(method: str, release: str) -> None:
    with pytest.raises(SettingsError, match="choose from"):
        arms([method], [release], 1, 0)
