"""Labels, attributes and ids: every kind of bad input is one error that names file, row, value and mend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from secure_fair.data.alignment import differences, ids_digest
from secure_fair.data.attributes import AttributeTable, read_attributes, read_schema
from secure_fair.data.labels import read_labels
from secure_fair.errors import DataError

TASK = '{"version": 1, "task": "Smiling", "classes": ["no", "yes"]}'
LABELS = "id,path,label,split\nr1,images/r1.jpg,no,train\nr2,images/r2.jpg,yes,train\nr3,images/r3.jpg,yes,test\n"
ATTRIBUTES = "id,Male,Tone,identity\nr1,yes,pale,7\nr2,no,dark,8\nr3,yes,dark,7\n"
CATEGORIES = {"Male": ("no", "yes"), "Tone": ("pale", "medium", "dark")}


def _labels(root: Path, labels: str = LABELS, task: str = TASK) -> Path:
    (root / "labels.csv").write_text(labels)
    (root / "data.json").write_text(task)
    return root


def _table(root: Path, text: str = ATTRIBUTES, person: str | None = None) -> AttributeTable:
    (root / "attributes.csv").write_text(text)
    return read_attributes(root / "attributes.csv", ("Male", "Tone"), CATEGORIES, person)


def test_labels_are_ordered_by_id_and_coded(tmp_path: Path) -> None:
    lines = LABELS.splitlines(keepends=True)
    table = read_labels(_labels(tmp_path, lines[0] + lines[3] + lines[1] + lines[2]))
    assert table.ids == ("r1", "r2", "r3")
    assert table.labels.tolist() == [0, 1, 1]
    assert table.splits.tolist() == ["train", "train", "test"]
    assert table.paths[0] == tmp_path / "images/r1.jpg"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("r2,images", "r1,images", r"labels.csv, row 3: duplicate id 'r1' \(first in row 2\); keep one"),
        ("r2,images", ",images", "row 3: empty id"),
        ("r2.jpg,yes", "r2.jpg,", "row 3: label missing for 'r2'; label the image"),
        ("r2.jpg,yes", "r2.jpg,maybe", "row 3: label 'maybe' is not a class of Smiling; write one of no, yes"),
        ("yes,test", "yes,tset", "row 4: split 'tset' is unknown; write one of train, val, test"),
        ("images/r2.jpg", "/etc/passwd", "row 3: path '/etc/passwd' is outside"),
        ("images/r2.jpg", "images/../../r2.jpg", "outside the folder; name a file inside it"),
        ("r2,images", "r2,x,images", "row 3: 5 fields instead of 4"),
        ("label,split", "lable,split", r"row 1: no column label \(found id, path, lable, split\)"),
        ("r2.jpg,yes", "r2.jpg,no", "no training record has the label 'yes'"),
    ],
)
def test_bad_labels(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in LABELS
    with pytest.raises(DataError, match=says):
        read_labels(_labels(tmp_path, LABELS.replace(old, new)))


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("{", "data.json: not JSON"),
        ("[]", "data.json: not of version 1; prepare the folder again"),
        (TASK.replace("1", "2"), "not of version 1"),
        (TASK.replace('"yes"', '"no"'), "no `task` with two or more distinct `classes`"),
        (TASK.replace('["no", "yes"]', "2"), "no `task` with two or more"),
    ],
)
def test_bad_task(tmp_path: Path, task: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_labels(_labels(tmp_path, task=task))


def test_missing_and_unreadable_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.json: missing file; write it with `secure-fair data prepare`"):
        read_labels(tmp_path)
    _labels(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"id,path,label,split\n\xff\xfe\n")
    with pytest.raises(DataError, match="not a UTF-8 CSV file"):
        read_labels(tmp_path)
    (tmp_path / "labels.csv").write_text("id,path,label,split\n")
    with pytest.raises(DataError, match="no record"):
        read_labels(tmp_path)


def test_one_hot_rows_follow_the_ids_asked_for(tmp_path: Path) -> None:
    table = _table(tmp_path)
    encoded = table.one_hot("Tone", ("r3", "r1", "r3"))
    assert encoded.dtype == np.int64
    assert encoded.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]  # a column for "medium", which nobody has
    assert table.persons == ("r1", "r2", "r3")
    assert _table(tmp_path, person="identity").persons == ("7", "8", "7")


def test_unknown_ids_and_columns_are_refused(tmp_path: Path) -> None:
    table = _table(tmp_path)
    with pytest.raises(DataError, match="no record 'r9'; align the two tables"):
        table.one_hot("Male", ("r1", "r9"))
    with pytest.raises(DataError, match="no column 'Age'; it has Male, Tone"):
        table.one_hot("Age", ("r1",))


def test_no_value_is_shown(tmp_path: Path) -> None:
    text = f"{_table(tmp_path, person='identity')!r} {_table(tmp_path)}"
    assert not any(value in text for value in ("yes", "dark", "r1", "array", "'7'"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "r2,no,dark",
            "r2,No,dark",
            "attributes.csv, row 3: Male of 'r2' is 'No', not a category; write one of no, yes",
        ),
        ("r2,no,dark", "r2,,dark", "row 3: Male of 'r2' is missing; fill it in"),
        ("r2,no", "r1,no", r"row 3: duplicate id 'r1' \(first in row 2\)"),
        ("dark,8", "dark,", "row 3: identity of 'r2' is missing"),
        ("Tone", "Skin", "row 1: no column Tone"),
    ],
)
def test_bad_attributes(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        _table(tmp_path, ATTRIBUTES.replace(old, new), person="identity")


def test_categories_are_given_and_never_inferred(tmp_path: Path) -> None:
    (tmp_path / "attributes.csv").write_text(ATTRIBUTES)
    with pytest.raises(DataError, match="column Male has no categories"):
        read_attributes(tmp_path / "attributes.csv", ("Male",), {}, None)


def test_schema(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"version": 1, "attributes": {"Male": ["no", "yes"]}, "person": null}')
    assert (read_schema(file).attributes, read_schema(file).person) == ({"Male": ("no", "yes")}, None)
    for text, says in (
        ('{"version": 1, "attributes": {"Male": ["no"]}, "person": null}', "Male needs two or more distinct"),
        ('{"version": 1, "attributes": {"Male": ["no", "no"]}, "person": null}', "Male needs two or more distinct"),
        ('{"version": 1, "attributes": [], "person": null}', "no `attributes` object"),
        ('{"version": 1, "attributes": {"Male": ["no", "yes"]}, "person": 3}', "a `person` that is no name"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=says):
            read_schema(file)


def test_the_digest_depends_on_order_boundaries_and_key() -> None:
    key = bytes(range(32))
    digests = {
        ids_digest(ids, k)
        for ids in (("a", "bc"), ("ab", "c"), ("bc", "a"), ("abc",), ("a", "bc", ""))
        for k in (key, key[::-1])
    }
    assert len(digests) == 10
    assert ids_digest(["a", "bc"], key) == ids_digest(("a", "bc"), key)
    with pytest.raises(DataError, match="too short"):
        ids_digest(("a",), b"short")


def test_differences_are_sorted_and_both_ways() -> None:
    assert differences(("b", "a", "c"), ("c", "d")) == (["a", "b"], ["d"])


@pytest.mark.parametrize(
    "module", ["attributes", "alignment", "labels", "faces", "celeba", "utkface", "prepare", "check", "source", "jpeg"]
)
def test_only_the_reader_of_images_loads_torch(module: str) -> None:
    heavy = {"torch", "timm", "crypten", "click"}
    code = f"import sys, secure_fair.data.{module}; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"
