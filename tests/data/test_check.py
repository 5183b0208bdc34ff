"""`check` finds every planted problem in one pass, and nothing in a sound folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from secure_fair.data import celeba, prepare
from secure_fair.data.check import check
from secure_fair.errors import DataError


def _edit(file: Path, row: int, old: str, new: str) -> None:
    lines = file.read_text().splitlines(keepends=True)
    assert old in lines[row - 1]
    lines[row - 1] = lines[row - 1].replace(old, new)
    file.write_text("".join(lines))


def test_a_sound_folder_and_each_half_of_it(prepared: Path) -> None:
    found = check(prepared)
    assert (found.problems, found.records, found.images, found.attributes) == ((), 120, 120, ("Male",))
    assert check(prepared / "developer").problems == ()
    assert check(prepared / "auditor").images == 0
    assert check(prepared / "auditor").records == 120


def test_every_planted_problem_is_listed_at_once(prepared: Path) -> None:
    labels, attributes = prepared / "developer/labels.csv", prepared / "auditor/attributes.csv"
    images = prepared / "developer/images/r000"
    (images / "r000002.jpg").unlink()
    (images / "r000004.jpg").write_bytes((images / "r000004.jpg").read_bytes()[:-100])
    rows = labels.read_text().splitlines()
    _edit(labels, 12, "r000010,", "r000009,")
    _edit(labels, 22, rows[21].split(",")[2], "perhaps")
    _edit(labels, 32, f",{rows[31].split(',')[2]},", ",,")
    _edit(attributes, 42, "r000040", "stranger")
    _edit(attributes, 52, attributes.read_text().splitlines()[51].split(",")[1], "unknown")
    schema = prepared / "auditor/schema.json"
    schema.write_text(schema.read_text().replace('"yes"', '"yes", "other"'))
    (prepared / "developer/attributes.csv").write_text("id\n")
    found = [str(problem) for problem in check(prepared).problems]
    expected = [
        (labels, 4, "missing file"),
        (labels, 6, "broken JPEG"),
        (labels, 12, "duplicate id 'r000009' (first in row 11)"),
        (labels, 22, "label 'perhaps' is not a class"),
        (labels, 32, "label missing for 'r000030'"),
        (labels, 42, "id 'r000040' is unknown in attributes.csv"),
        (attributes, 12, "id 'r000010' is unknown in labels.csv"),
        (attributes, 42, "id 'stranger' is unknown in labels.csv"),
        (attributes, 52, "Male of 'r000050' is 'unknown', not a category"),
    ]
    for file, row, what in expected:
        assert any(text.startswith(f"{file}, row {row}: {what}") for text in found), what
    assert any("empty group: no record of the table has Male 'other'" in text for text in found)
    assert any("the developer may not hold attributes" in text for text in found)
    assert len(found) == len(expected) + 2
    assert all("; " in text for text in found)  # each with its mend


def test_a_group_without_records_in_one_split(prepared: Path) -> None:
    labels, attributes = prepared / "developer/labels.csv", prepared / "auditor/attributes.csv"
    rows = dict(line.split(",")[0::3] for line in labels.read_text().splitlines()[1:])
    lines = attributes.read_text().splitlines()
    kept = [line.replace(",yes,", ",no,") if rows.get(line.split(",")[0]) == "test" else line for line in lines]
    attributes.write_text("\n".join(kept) + "\n")
    (problem,) = check(prepared).problems
    assert "empty group: no record of the split test has Male 'yes'" in problem.what


def test_the_auditors_own_images_are_checked(celeba_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = prepare.PrepareSettings("Smiling", ("Male",), auditor_images=0.2)
    prepare.prepare(celeba.read(celeba_root), out, settings)
    assert check(out).images == 120
    next((out / "auditor/images").rglob("*.jpg")).unlink()
    (problem,) = check(out).problems
    assert problem.file == out / "auditor/images.csv"
    assert problem.what.startswith("missing file")


def test_missing_tables_are_reported_once(prepared: Path) -> None:
    (prepared / "developer/labels.csv").unlink()
    (prepared / "auditor/schema.json").unlink()
    texts = [str(problem) for problem in check(prepared).problems]
    assert len(texts) == 2
    assert any("labels.csv: missing file" in text for text in texts)
    assert any("schema.json: missing file" in text for text in texts)


def test_a_lost_task_description_does_not_blame_every_row(prepared: Path) -> None:
    (prepared / "developer/data.json").write_text(json.dumps({"version": 9}))
    assert [problem.row for problem in check(prepared).problems] == [0]


def test_nothing_to_check(tmp_path: Path, prepared: Path) -> None:
    shutil.rmtree(prepared)
    with pytest.raises(DataError, match=r"no labels.csv and no attributes.csv"):
        check(tmp_path)
