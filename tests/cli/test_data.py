"""`secure-fair data` from drawing to checking, and what it says when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secure_fair.cli import main


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "faces"
    assert main.run(["data", "faces", str(root), "-n", "80", "--size", "32", "--balanced-test"]) == 0
    return root


@pytest.fixture
def prepared(faces: Path, tmp_path: Path) -> Path:
    out = tmp_path / "prepared"
    arguments = ["--task", "Smiling", "--sensitive", "Male, SkinTone", "--out", str(out)]
    join = ["--join", "SkinTone=Pale_Skin,Medium_Skin,Dark_Skin"]
    assert main.run(["data", "prepare", "celeba", str(faces), *arguments, *join, "--person"]) == 0
    return out


def test_faces_prints_one_json_object_and_progress_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-n", "60", "--size", "40x48", "--layout", "utkface", "--json"]
    assert main.run(["data", "faces", str(tmp_path / "utk"), *arguments]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["task"] == "Young"
    assert sum(sum(cells.values()) for cells in found["counts"].values()) == 60
    assert "drawing faces: 60/60" in captured.err
    assert len(list((tmp_path / "utk").glob("*.jpg.chip.jpg"))) == 60


def test_prepare_and_check(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads((prepared / "auditor/schema.json").read_text())
    assert list(schema["attributes"]) == ["Male", "SkinTone"]
    assert schema["person"] == "identity"
    assert main.run(["data", "check", str(prepared)]) == 0
    assert "no problem in 80 records, 80 images, attributes: Male, SkinTone" in capsys.readouterr().out


def test_prepare_utkface_warns_of_malformed_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "utk"
    assert main.run(["data", "faces", str(root), "-n", "30", "--size", "32", "--layout", "utkface"]) == 0
    (root / "61_1_20170109142408075.jpg.chip.jpg").write_bytes(b"")
    capsys.readouterr()
    arguments = ["--task", "Gender", "--sensitive", "Age", "--age-bins", "40", "--auditor-images", "0.5"]
    assert main.run(["data", "prepare", "utkface", str(root), *arguments, "--out", str(tmp_path / "o"), "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["skipped"] == 1
    assert found["auditor_images"] == 12
    assert found["attributes"] == {"Age": ["0-39", "40+"]}
    assert "61_1_20170109142408075.jpg.chip.jpg: the name is not" in captured.err


def test_check_lists_every_problem_and_exits_1(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = sorted((prepared / "developer/images").rglob("*.jpg"))
    images[0].unlink()
    images[1].write_bytes(b"no image")
    capsys.readouterr()
    assert main.run(["data", "check", str(prepared), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert [(problem["row"], problem["what"].split(" /")[0]) for problem in found["problems"]] == [
        (2, "missing file"),
        (3, "broken JPEG"),
    ]
    assert main.run(["data", "check", str(prepared)]) == 1
    out = capsys.readouterr().out
    assert "labels.csv, row 2: missing file" in out
    assert "2 problems in 80 records" in out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["check", "."], 1, "error: .: no labels.csv and no attributes.csv; name a folder"),
        (["faces", "x", "--task", "Smile"], 1, "error: task 'Smile': the celeba layout has Smiling"),
        (["faces", "x", "--size", "big"], 2, "write pixels, as 96 or 178x218"),
        (["faces", "x", "--correlation", "2"], 2, "--correlation"),
        (
            ["prepare", "celeba", ".", "--task", "A", "--sensitive", "B", "--out", "x"],
            1,
            "missing file list_attr_celeba.txt",
        ),
        (["prepare", "celeba", ".", "--task", "A", "--sensitive", "B", "--out", "x", "--join", "C"], 2, "NAME=COLUMN"),
        (
            ["prepare", "utkface", ".", "--task", "A", "--sensitive", "B", "--out", "x", "--age-bins", "a"],
            2,
            "rising ages",
        ),
        (["prepare", "celeba", ".", "--sensitive", "B", "--out", "x"], 2, "--task"),
    ],
)
def test_errors_are_one_line_with_the_mend(
    arguments: list[str],
    status: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["data", *arguments]) == status
    assert says in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_small_test_split_is_warned_of_by_group_and_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the terminal of who prepares: no file of the developer's tells the counts."""
    root, out = tmp_path / "faces", tmp_path / "prepared"
    assert main.run(["data", "faces", str(root), "-n", "80", "--size", "32"]) == 0
    few = "fewer than 10 records to test on of "
    drawn = "Male=no, Smiling=no (7); Male=no, Smiling=yes (1); Male=yes, Smiling=no (1); Male=yes, Smiling=yes (7):"
    assert f"warning: {few}{drawn}" in capsys.readouterr().err
    asked = ["--task", "Smiling", "--sensitive", "Male", "--auditor-images", "0.5", "--out", str(out), "--json"]
    assert main.run(["data", "prepare", "celeba", str(root), *asked]) == 0
    captured = capsys.readouterr()
    assert f"warning: {few}{drawn}" in captured.err
    assert json.loads(captured.out)["test"] == {
        "Male=no, Smiling=no": 7, "Male=no, Smiling=yes": 1, "Male=yes, Smiling=no": 1, "Male=yes, Smiling=yes": 7
    }  # fmt: skip
    assert all("Male" not in file.read_text() for file in (out / "developer").glob("*.*"))


def test_a_test_split_of_enough_records_is_not_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-n", "240", "--size", "32", "--balanced-test"]
    assert main.run(["data", "faces", str(tmp_path / "faces"), *arguments]) == 0
    assert "warning" not in capsys.readouterr().err
