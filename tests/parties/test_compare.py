"""A comparison over seeds with real parties: its files, its table, its page; complete arms are not run again."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import pytest
import tomli_w

from parties.comparison import PRIVATE, Arm, arms, compare
from parties.exposure import warning
from secure_fair.cli.compare import compare as command_line
from secure_fair.errors import RunError, SettingsError
from secure_fair.settings import Settings, load, parse
from tests.parties.commands import Command
from tests.parties.world import write_settings
from tests.report.world import demo_rows, run_files

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
    assert plain["minus_erm"]["equalized_odds_difference"]["low"] is None  # of two
    assert "2 seeds are too few for an interval" in printed
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


def left_complete(out: Path) -> tuple[list[Arm], Settings]:
    """The committed demo's ERM and moment arms, as an earlier call has left them in OUT."""
    chosen = [Arm("erm", None, 0), Arm("orth", "moment", 0)]
    rows = demo_rows()
    for arm, row in zip(chosen, (rows[0], rows[3]), strict=True):
        row["arm"] = "plaintext" if arm.release is None else "secure"
        run_files(out / "runs" / arm.name, row)
        (out / "runs" / arm.name / "summary.json").write_text(json.dumps(row))
    return chosen, parse(Settings, rows[0]["config"], "the demo's")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("privacy.epsilon=8.0", r"privacy\.epsilon = 2\.0, and now it is 8\.0"),
        ("training.epochs=99", r"training\.epochs = 3, and now it is 99"),
        ("fairness.weight=5.0", r"fairness\.weight = None, and now it is 5\.0"),
        ('attributes.columns=["Young"]', r"attributes\.columns = \['Male'\], and now it is \['Young'\]"),
        ('data.root="elsewhere"', r"data\.root = .*demo/prepared/developer, and now it is .*/elsewhere"),
        ("network.timeout_seconds=5.0", None),
        ("data.workers=3", None),
    ],
)
def test_a_complete_arm_of_other_settings_is_not_taken(tmp_path: Path, override: str, said: str | None) -> None:
    """The first setting that differs is named, and nothing is run or removed; where none does, nothing is run."""
    out, file = tmp_path / "cmp", tmp_path / "settings.toml"
    chosen, before = left_complete(out)
    table = before.model_dump(mode="json", exclude_none=True)
    for section, key in (("data", "root"), ("attributes", "file")):
        table[section][key] = str(Path(table[section][key]).resolve())  # the same place, said in another way
    file.write_text(tomli_w.dumps(table))
    asked = load(file, (override,))
    if said is None:
        found = compare(asked, file, (), chosen, out, print, lambda *_: None)
        assert [row["run"] for row in found["rows"]] == [f"runs/{arm.name}" for arm in chosen]
        return
    (out / "runs" / "orth-plaintext-seed0").mkdir()  # of an arm that was interrupted
    files = sorted(out.rglob("*"))
    with pytest.raises(RunError, match=said) as caught:
        compare(asked, file, (), [Arm("orth", None, 0), *chosen], out, print, lambda *_: None)
    assert "name another --out, or remove" in str(caught.value)
    assert sorted(out.rglob("*")) == files


NO_SETTINGS = ["{", "{}", "[]", "null", '{"config": {"training": {"epoch": 1}}}']


@pytest.mark.parametrize("text", [*NO_SETTINGS, '{"config": []}', '{"config": {}, "privacy": null}'])
def test_a_summary_that_says_nothing_is_not_taken(tmp_path: Path, text: str) -> None:
    chosen, before = left_complete(tmp_path)
    (tmp_path / "runs" / chosen[0].name / "summary.json").write_text(text)
    with pytest.raises(RunError, match="made anew"):
        compare(before, tmp_path / "x.toml", (), chosen, tmp_path, print, lambda *_: None)


@pytest.mark.parametrize(
    ("method", "release", "said"),
    [("orht", "gradient", "methods: orht is unknown; choose"), ("orth", "momnt", "releases: momnt is unknown; choose")],
)
def test_a_name_that_nobody_knows(method: str, release: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"^{said} from .*{'orth' if method == 'orht' else 'moment'}"):
        arms(["erm", method], ["moment", release], 1, 0)


def test_what_is_compared_unasked_protects_people() -> None:
    """A release that shows the developer the attributes has to be named."""
    (option,) = [option for option in command_line.params if option.name == "releases"]
    releases = str(option.default).split(",")
    assert set(releases) == set(PRIVATE)
    assert all(warning(release, Settings()) is None for release in releases)
    assert warning("gradient", Settings()) is not None


def test_a_small_test_split_is_warned_of_once(tmp_path: Path) -> None:
    chosen, before = left_complete(tmp_path)
    for arm in chosen:
        file = tmp_path / "runs" / arm.name / "summary.json"
        row = json.loads(file.read_text())
        row["classes"] = ["calm", "smiling"]
        row["metrics"]["by_group"]["yes"] |= {"count": 50, "positives": 47}
        file.write_text(json.dumps(row))
    said: list[str] = []
    compare(before, tmp_path / "x.toml", (), chosen, tmp_path, said.append, lambda *_: None)
    (told,) = [text for text in said if "records to test on" in text]
    assert told.startswith("warning: fewer than 10 records to test on of Male=yes, label calm (3): ")


def test_a_comparison_that_is_refused_leaves_nothing(tmp_path: Path, data: Path) -> None:
    config = write_settings(tmp_path / "settings.toml", data)
    asked = load(config, ('lora.targets=["none"]',))
    with pytest.raises(SettingsError, match="no module `none`"):
        compare(asked, config, (), [Arm("erm", None, 0)], tmp_path / "a" / "cmp", print, lambda *_: None)
    assert not (tmp_path / "a").exists()
