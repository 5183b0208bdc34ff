"""Readers of both tables: what they take, and what they refuse, naming file, row, value and mend."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from secure_fair.audit import columns
from secure_fair.audit.attributes import AuditTable, categories_in, read_audit_table
from secure_fair.audit.columns import Table, read_ids
from secure_fair.audit.predictions import edges, read_predictions
from secure_fair.errors import DataError, RefusedError
from secure_fair.privacy.policy import Policy
from secure_fair.sections import AuditSettings

POLICY = Policy(
    releases=("audit",), epsilon=1.0, delta=1e-5, categories={"Sex": ("f", "m"), "Age": ("young", "middle", "old")}
)


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def predictions(file: Path, **options: Any) -> Any:
    return read_predictions(AuditSettings(predictions=file, **options))


def attributes(file: Path, *names: str, policy: Policy = POLICY) -> AuditTable:
    return read_audit_table(file, names, policy)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_both_formats_are_read_in_the_order_of_the_ids(tmp_path: Path, kind: str) -> None:
    rows = {"id": ["c", "a", "b"], "label": [1, 0, 1], "prediction": [1, 1, 0], "other": ["x", "y", "z"]}
    file = tmp_path / f"p.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table(rows), file)
    else:
        lines = [",".join(map(str, row)) for row in zip(*rows.values(), strict=True)]
        write(file, "\n".join([",".join(rows), *lines]) + "\n")
    found = predictions(file)
    assert list(found.ids) == ["a", "b", "c"]
    assert found.classes == ("0", "1")
    assert found.labels.tolist() == [0, 1, 1]
    assert found.other.tolist() == [1, 0, 1]
    assert found.totals.tolist() == [0, 1, 1, 1]
    assert "1" not in repr(found).replace("classes 0, 1", "")


def test_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few hundred bytes: codes of classes that appear late fit those of the first."""
    monkeypatch.setattr(columns, "_BLOCK_BYTES", 300)
    generator = np.random.default_rng(0)
    names = np.array(["bird", "cat", "dog"])
    label, other = (names[np.sort(generator.integers(0, 3, 500))] for _ in range(2))
    lines = [f"r{i:03d},{y},{p}" for i, (y, p) in enumerate(zip(label[::-1], other, strict=True))]
    found = predictions(write(tmp_path / "p.csv", "id,label,prediction\n" + "\n".join(lines) + "\n"))
    assert found.classes == ("bird", "cat", "dog")
    assert np.array_equal(names[found.labels], label[::-1])
    assert np.array_equal(names[found.other], other)


def test_scores_thresholds_and_bins(tmp_path: Path) -> None:
    text = "id,label,score\n" + "".join(f"r{i},{i % 2},{score}\n" for i, score in enumerate([0, 0.29, 0.3, 0.7, 1]))
    file = write(tmp_path / "p.csv", text)
    assert predictions(file, threshold=0.3).other.tolist() == [0, 0, 1, 1, 1]
    assert predictions(file, threshold=0.3, bins=4).other.tolist() == [0, 1, 2, 3, 3]
    assert edges(0.3, 4).tolist() == pytest.approx([0, 0.15, 0.3, 0.65, 1])
    assert predictions(file, threshold=0.3).totals.tolist() == [1, 2, 1, 1]


def test_numbers_are_ordered_by_value_and_a_split_is_chosen(tmp_path: Path) -> None:
    text = "id,label,prediction,split\na,10,9,test\nb,9,10,val\nc,9,9,test\n"
    found = predictions(write(tmp_path / "p.csv", text), split="test")
    assert found.classes == ("9", "10")
    assert list(found.ids) == ["a", "c"]
    assert list(read_ids(tmp_path / "p.csv", "test")) == ["a", "c"]


BAD = {
    "id,label,prediction\na,1,1\na,0,1\n": r"row 3: duplicate id 'a' \(first as record 1 of the table\); keep one",
    "id,label,prediction\n,1,1\nb,0,1\n": "row 2: empty id; give every record an id",
    "id,label,prediction\na,,1\nb,0,1\n": "row 2: label is missing",
    "id,label\na,1\n": "no column 'prediction' .found id, label.; add it",
    "id,prediction\na,1\n": "no column 'label'",
    "id,id,label,prediction\na,b,1,1\n": "column 'id' occurs twice",
    "id,label,score\na,1,0.5\n": "a score and no prediction; say from which score",
    "id,label,prediction\n": "no record",
    "id,label,prediction\na,yes,yes\n": "one class only; name all classes",
    "": "not a CSV or Parquet table",
    "id,label,prediction\na,1\n": "not a CSV or Parquet table .CSV parse error: Row #2: Expected 3 columns, got 2",
    "PAR1 is not the whole of it": "not a CSV or Parquet table",
    "id,label,prediction\n" + "".join(f"r{i},{i / 7},1\n" for i in range(200)): "more than 100 different labels",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_table_is_refused(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "p.csv", text)
    with pytest.raises(DataError, match=BAD[text]) as refusal:
        predictions(file)
    assert str(refusal.value).startswith(str(file))


@pytest.mark.parametrize("score", ["nan", "", "high", "inf"])
def test_a_score_that_is_no_number_is_refused(tmp_path: Path, score: str) -> None:
    file = write(tmp_path / "p.csv", f"id,label,score\na,1,0.5\nb,0,{score}\n")
    with pytest.raises(DataError, match=f"row 3: score '{score}' is not a finite number; mend or remove"):
        predictions(file, threshold=0.5)


def test_values_outside_what_the_settings_say(tmp_path: Path) -> None:
    file = write(tmp_path / "p.csv", "id,label,prediction,score\na,1,1,1.5\nb,0,2,0.5\n")
    with pytest.raises(DataError, match="row 3: prediction '2' is not one of 0, 1"):
        predictions(file, classes=("0", "1"))
    with pytest.raises(DataError, match=r"row 2: score 1.5 is outside \[0, 1\]"):
        predictions(file, bins=10)
    with pytest.raises(DataError, match=r"no column .split."):
        predictions(file, split="test")
    three = write(tmp_path / "three.csv", "id,label,score\na,0,0.1\nb,1,0.1\nc,2,0.1\n")
    with pytest.raises(DataError, match="a score with 3 classes"):
        predictions(three, threshold=0.5)


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_a_file_that_cannot_be_read(tmp_path: Path, what: str) -> None:
    with pytest.raises(DataError, match=r"missing file|cannot be read"):
        predictions(tmp_path / "none.csv" if what == "missing" else tmp_path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    file = tmp_path / f"p.{kind}"
    rows = {"id": [f"r{i:04d}" for i in range(3000)], "label": [0, 1] * 1500, "prediction": [1, 0] * 1500}
    if kind == "parquet":
        pq.write_table(pa.table(rows), file)
    else:
        write(file, "id,label,prediction\n" + "".join(f"{a},{b},{c}\n" for a, b, c in zip(*rows.values(), strict=True)))
    batches = Table._batches

    def touched(self: Table, names: list[str]) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(batches(self, names)):
            if number == 0:  # replaced by another of the same size
                file.write_bytes(file.read_bytes())
                os.utime(file, ns=(0, 1))
            yield batch

    monkeypatch.setattr(Table, "_batches", touched)
    with pytest.raises(DataError, match="changed while it was read; wait until it is complete"):
        predictions(file)


def test_the_auditors_table(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "id,Sex,Age,who\nb,m,old,x\na,f,young,x\nc,f,old,y\n")
    policy = POLICY.model_copy(update={"person": "who"})
    table = attributes(file, "Sex", "Sex*Age", policy=policy)
    rows = table.rows(table.ids.keyed(b"k" * 32)[[2, 0]], b"k" * 32)
    assert rows.tolist() == [2, 0]
    assert table.groups("Sex", rows).tolist() == [0, 0]
    assert table.groups("Sex*Age", np.arange(3)).tolist() == [0, 5, 2]
    assert list(table.people(np.arange(3))) == ["x", "x", "y"]
    assert table.per_person(np.arange(3)) == 2
    assert table.per_person(rows) == 1
    assert "old" not in repr(table)
    assert categories_in(file, ["Sex"]) == {"Sex": ("f", "m")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,Sex\na,f\n", "no column 'Age'"),
        ("id,Sex,Age\na,f,young\na,m,old\n", "row 3: duplicate id 'a'"),
        ("id,Sex,Age\na,x,young\n", "row 2: Sex 'x' is not one of f, m"),
        ("id,Sex,Age\na,f,\n", "row 2: Age is missing"),
    ],
)
def test_a_bad_table_of_the_auditors(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        attributes(write(tmp_path / "a.csv", text), "Sex", "Age")


def test_an_attribute_that_the_policy_lacks(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="attribute 'Income' is not one of the auditor's policy"):
        attributes(write(tmp_path / "a.csv", "id,Income\na,1\n"), "Income")
    many = "id,code\n" + "".join(f"r{i},{i}\n" for i in range(30))
    with pytest.raises(DataError, match="more than 20 values; name the attributes"):
        categories_in(write(tmp_path / "b.csv", many), ["code"])


def test_ids_are_matched_by_keyed_hashes_or_refused(tmp_path: Path) -> None:
    table = attributes(write(tmp_path / "a.csv", "id,Sex\na,f\nb,m\n"), "Sex")
    key = b"k" * 32
    ours = table.ids.keyed(key)
    with pytest.raises(RefusedError, match="2 of 2 record ids are not in the auditor's table"):
        table.rows(table.ids.keyed(b"j" * 32), key)
    with pytest.raises(RefusedError, match="named a record twice"):
        table.rows(ours[[0, 0]], key)


def test_a_commitment_binds_to_the_values(tmp_path: Path) -> None:
    first = attributes(write(tmp_path / "a.csv", "id,Sex\na,f\nb,m\n"), "Sex")
    same = attributes(write(tmp_path / "b.csv", "id,Sex\nb,m\na,f\n"), "Sex")
    other = attributes(write(tmp_path / "c.csv", "id,Sex\na,f\nb,f\n"), "Sex")
    rows = np.arange(2)
    named = [table.commitment(b"key", ["Sex"], rows) for table in (first, same, other)]
    assert named[0] == named[1] != named[2]
    assert named[0] != first.commitment(b"other key", ["Sex"], rows)


def test_commitments_to_equal_values_of_different_people_differ(tmp_path: Path) -> None:
    """Also in another order of the same people, which a developer chooses, and under other categories."""
    table = attributes(write(tmp_path / "a.csv", "id,Sex\n" + "".join(f"r{i:02d},f\n" for i in range(20))), "Sex")
    questions = [np.array(rows) for rows in ([0], [1], [0, 1], [1, 0], [2, 3])]
    named = [table.commitment(b"key", ["Sex"], rows) for rows in questions]
    named += [table.commitment(b"key", ["Sex*Sex"], np.array([0]))]
    renamed = replace(table, categories={"Sex": ("female", "male")})
    named += [renamed.commitment(b"key", ["Sex"], np.array([0]))]
    assert len(set(named)) == len(named)


def test_a_set_of_records_has_one_name(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{i}.csv", f"id\n{text}\n") for i, text in enumerate(("a\nb", "b\na", "ab\nc"))]
    names = [read_ids(file, None).digest() for file in files]
    assert names[0] == names[1] != names[2]
