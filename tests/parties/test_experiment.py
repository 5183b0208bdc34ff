"""`secure-fair experiment` on a small grid, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from parties import experiment
from parties.experiment_data import prepare_pair, require_same, settings_file
from parties.experiment_file import load
from secure_fair.errors import RunError, SettingsError
from tests.parties import commands
from tests.parties.test_simulate import flat

RECIPES = Path(__file__).parents[2] / "benchmarks" / "experiments"
SMALL = """
seeds = 1
arms = ["orth"]
auditor_images = 0.2
[weights]
orth = [1.0, 50.0]
[[pairs]]
name = "age-race"
layout = "utkface"
task = "Age"
attribute = "Race"
age_bins = [40, 60]
faces = { count = 120, correlation = 0.7, size = 48 }
[settings.data]
image_size = 48
[settings.model]
backbone = "demo_vit"
weights = "random"
[settings.training]
epochs = 1
batch_size = 32
device = "cpu"
threads = 1
"""


DATA = (
    SMALL[: SMALL.index("[[pairs]]")]
    + """
[[pairs]]
name = "drawn"
task = "Smiling"
attribute = "Male"
person = true
faces = { count = 40, correlation = 0.7, size = 32 }
[[pairs]]
name = "utk"
layout = "utkface"
task = "Age"
attribute = "Race"
age_bins = [40, 60]
faces = { count = 120, size = 32 }
[[pairs]]
name = "read"
task = "Smiling"
attribute = "Tone"
join.Tone = ["Pale_Skin", "Medium_Skin", "Dark_Skin"]
root = "out/data/drawn/faces"
"""
    + SMALL[SMALL.index("[settings.data]") :]
)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.name)
def test_recipes_are_sound(recipe: Path) -> None:
    found = load(recipe)
    assert found.parsed()[0] == ("erm", None)
    assert str(found.max_loss) in found.rule


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds = 1", "seed = 1", "did you mean `seeds`"),
        ('["orth"]', '["adv"]', "add it to `arms`"),
        ('["orth"]', '["orth adapter"]', "no release `adapter`"),
        ("faces = {", 'root = "somewhere"\nfaces = {', "name either `root`"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(SMALL.replace(old, new))
    with pytest.raises(SettingsError, match=said):
        load(file)


def test_a_grid_is_run_once_and_resumed(tmp_path: Path) -> None:
    file, out = tmp_path / "grid.toml", tmp_path / "out"
    file.write_text(SMALL)
    text = commands.done(["experiment", str(file), "--out", str(out)], tmp_path / "log")
    assert "smallest equalized-odds difference on the validation split" in text
    result = json.loads((out / "results.json").read_text())
    assert [(row["method"], row["release"], row["arm"]) for row in result["rows"]] == [
        ("erm", "none", "plaintext"),
        ("orth", "none", "plaintext"),
    ]
    assert result["choices"]["age-race"]["orth"] in (1.0, 50.0)
    assert result["rows"][1]["weight"] == result["choices"]["age-race"]["orth"]
    assert len(result["rows"][0]["metrics"]["by_group"]) == 5  # races by the data set's names; two have nobody
    orth = result["lines"][1]  # what the table has, as numbers
    assert orth["estimates"]["balanced_accuracy"]["mean"] == result["rows"][1]["metrics"]["balanced_accuracy"]
    assert orth["against_erm"] == {"balanced_accuracy": None, "equalized_odds_difference": None}  # one seed
    assert set(result["environment"]) == {"command", "commit", "machine", "cores", "versions"}
    assert {path.name for path in out.iterdir()} >= {"table.csv", "table.tex", "table.html", "rule.txt", "choices.json"}

    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/summary.json")}
    (gone,) = out.glob("runs/age-race/erm-*")
    (gone / "summary.json").unlink()
    (gone.with_name(f"{gone.name}.partial")).mkdir()  # as an interruption leaves it
    said = commands.done(["experiment", str(file), "--out", str(out)], tmp_path / "again")
    assert "1 of 1: age-race erm-plaintext" in said
    after = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/summary.json")}
    assert {path for path in before if after[path] != before[path]} == {gone / "summary.json"}

    (gone / "summary.json").unlink()
    said = commands.done(["experiment", str(file), "--out", str(out), "--table-only"], tmp_path / "table")
    assert "1 of 2 runs are complete" in said
    assert len(json.loads((out / "results.json").read_text())["rows"]) == 1

    file.write_text(SMALL.replace("epochs = 1", "epochs = 2"))
    refused = commands.failed(["experiment", str(file), "--out", str(out)], tmp_path / "other")
    assert any("training.epochs = 1, and now it is 2" in line for line in refused.errors)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data that a call has made: drawn in CelebA's layout and in UTK-Face's, and read from disk."""
    folder = tmp_path_factory.mktemp("grown")
    (folder / "grid.toml").write_text(DATA)
    plan = load(folder / "grid.toml")
    for pair in plan.pairs:
        prepare_pair(plan, pair, folder / "out", lambda *_: None)
    return folder


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('task = "Smiling"', 'task = "Young"', "task = Smiling, and now it is Young"),
        ('attribute = "Male"', 'attribute = "Bangs"', "attribute = Male, and now it is Bangs"),
        ("correlation = 0.7", "correlation = 0.6", r"faces\.correlation = 0\.7, and now it is 0\.6"),
        ("count = 40", "count = 50", r"faces\.count = 40, and now it is 50"),
        ("auditor_images = 0.2", "auditor_images = 0.0", r"auditor_images = 0\.2, and now it is 0\.0"),
        ("person = true", "person = false", "person = True, and now it is False"),
        ("join.Tone", "join.Skin", r"join\.Skin = nothing, and now it is \['Pale_Skin'"),
        ("age_bins = [40, 60]", "age_bins = [30, 60]", r"age_bins = \[40, 60\], and now it is \[30, 60\]"),
        ('root = "out/data/drawn/faces"', 'root = "out"', "root = .*/out/data/drawn/faces, and now it is .*/out"),
        ("[settings.data]", "[settings.lora]\nrank = 2\n[settings.data]", r"lora\.rank = 8, and now it is 2"),
        ("seeds = 1", "seeds = 5", None),
        ("[1.0, 50.0]", "[1.0]", None),
    ],
)
def test_data_of_another_description_are_not_taken(grown: Path, old: str, new: str, said: str | None) -> None:
    """The key that differs is named, before anything is drawn or trained; more seeds and other weights may be asked."""
    file, out = grown / "changed.toml", grown / "out"
    assert old in DATA
    file.write_text(DATA.replace(old, new, 1))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    if said is None:
        require_same(load(file), out)
    else:
        with pytest.raises(RunError, match=said):
            experiment.run_experiment(load(file), out, print, lambda *_: None)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_settings_file_may_name_its_folders_otherwise(grown: Path) -> None:
    """The data lie beside it, wherever that is from here, and are known by what they were made from."""
    file = settings_file(grown / "out", "drawn")
    before = file.read_text()
    assert 'root = "prepared/developer"' in before
    file.write_text(before.replace('"prepared/', f'"{file.parent}/prepared/'))
    require_same(load(grown / "grid.toml"), grown / "out")
    file.write_text(before)


@pytest.mark.parametrize("left", [("faces", "prepared", "settings.toml"), ("faces",), ("prepared",)])
def test_data_of_unknown_making_are_not_taken(grown: Path, tmp_path: Path, left: tuple[str, ...]) -> None:
    """An older version did not write down what it made data from; and a damaged file says nothing."""
    folder = tmp_path / "data" / "drawn"
    shutil.copytree(grown / "out" / "data" / "drawn", folder)
    plan = load(grown / "grid.toml")
    plan = plan.model_copy(update={"pairs": plan.pairs[:1]})
    for file in folder.iterdir():
        if file.name not in left:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    made = json.loads((grown / "out" / "data" / "drawn" / "made.json").read_text())
    for text in (None, "{", "[]", '{"version": 1}', json.dumps(made | {"version": 2})):
        if text is not None:
            (folder / "made.json").write_text(text)
        with pytest.raises(RunError, match="nobody knows what the data of drawn were made from; name another --out"):
            require_same(plan, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_small_recipe_with_secure_arms(tmp_path: Path) -> None:
    """Both layouts, three groups and three classes, workers; what is secure equals its twin."""
    commands.done(
        ["experiment", str(RECIPES / "small.toml"), "--out", str(tmp_path / "out"), "--workers", "2"],
        tmp_path / "log",
        fresh=True,
        patience=800.0,
    )
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert len(rows) == 2 * 2 * 5
    of = {(row["pair"], row["seed"], row["method"], row["arm"]): row["metrics"] for row in rows}
    for (pair, seed, method, arm), metrics in of.items():
        if arm == "secure":
            assert flat(metrics) == pytest.approx(flat(of[pair, seed, method, "plaintext"]), abs=1e-9, nan_ok=True)
    assert len({row["pair"] for row in rows}) == 2


def test_the_rule_reads_validation_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand-made validation metrics: too inaccurate, fair, unfair; and none that is accurate enough."""
    file = tmp_path / "grid.toml"
    file.write_text(SMALL.replace("[1.0, 50.0]", "[1.0, 50.0, 9.0]"))
    scores = {0.0: (0.80, 0.4), 1.0: (0.79, 0.3), 50.0: (0.60, 0.0), 9.0: (0.78, 0.1)}
    asked = []

    def metrics(path: Path, _table: object, _column: str, split: str) -> dict[str, float]:
        asked.append(split)
        weight = float(path.parts[-3].split("-w")[1].split("-")[0])
        return dict(zip(("balanced_accuracy", "equalized_odds_difference"), scores[weight], strict=True))

    monkeypatch.setattr("secure_fair.training.summary.group_metrics", metrics)
    monkeypatch.setattr("secure_fair.training.run_folder.read_table", lambda *_: None)
    assert experiment._choose(load(file), tmp_path) == {"age-race": {"orth": 9.0}}
    scores |= {1.0: (0.5, 0.3), 9.0: (0.6, 0.1), 50.0: (0.7, 0.9)}
    assert experiment._choose(load(file), tmp_path) == {"age-race": {"orth": 50.0}}
    assert set(asked) == {"val"}
