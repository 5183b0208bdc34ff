"""A record and a person have one name for both readers of the auditor's table: training's and the audit's."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_fair.audit import columns
from secure_fair.audit.attributes import AuditTable, read_audit_table
from secure_fair.audit.columns import read_ids
from secure_fair.data.attributes import AttributeTable, read_attributes
from secure_fair.errors import BudgetError
from secure_fair.privacy.accountant import Budget, gaussian_cost
from secure_fair.privacy.ledger import Ledger
from secure_fair.privacy.policy import Policy

POLICY = Policy(
    releases=("audit", "moment"), epsilon=2.0, delta=1e-5, categories={"Sex": ("f", "m")}, person="who, that is"
)
HEADER = ("id", "Sex", "who, that is")
BLANKS = " \t\x0b\x0c\x1c\x85\xa0\u2003\u2028\u3000"
HARD = [
    ("r1", "f", "p1"),
    (" r2", "m", " p1"),
    ("r3\t", " f", "p1\u3000"),
    ("\xa0r4\x85", "m ", "\n p1 \r\n"),
    ('r"5"', "f", 'p, "1"'),
    ("r6\nr6", "m", "p\u20281"),  # a blank within is a part of the name
    ("R7", "f", "\ufeffp1"),  # no blank
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(BLANKS + '",\n\r'), max_size=6)
NAMED = TEXT.filter(str.strip)


def write(file: Path, rows: list[tuple[str, str, str]], quoting: int = csv.QUOTE_MINIMAL) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, quoting=quoting).writerows([HEADER, *rows])  # type: ignore[arg-type]
    return file


def read(file: Path) -> tuple[AttributeTable, AuditTable]:
    return (
        read_attributes(file, ["Sex"], POLICY.categories, POLICY.person),
        read_audit_table(file, ["Sex"], POLICY),
    )


def the_same(training: AttributeTable, audit: AuditTable) -> bool:
    people = dict(zip(training.ids, zip(training.persons, training.codes["Sex"].tolist(), strict=True), strict=True))
    rows = np.arange(len(audit.ids))
    found = zip(audit.people(rows), audit.codes["Sex"].tolist(), strict=True)
    return list(zip(audit.ids, found, strict=True)) == sorted(people.items())


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that end anywhere, within a quoted value too."""
    monkeypatch.setattr(columns, "_BLOCK_BYTES", 64)


def test_a_hard_file(tmp_path: Path) -> None:
    training, audit = read(write(tmp_path / "a.csv", HARD))
    assert set(training.persons) == {"p1", 'p, "1"', "p\u20281", "\ufeffp1"}
    assert the_same(training, audit)
    assert read_ids(tmp_path / "a.csv", None).digest() == audit.ids.digest()
    pq.write_table(pa.table(dict(zip(HEADER, zip(*HARD, strict=True), strict=True))), tmp_path / "a.parquet")
    assert the_same(training, read_audit_table(tmp_path / "a.parquet", ["Sex"], POLICY))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(NAMED, st.sampled_from(["f", " m ", "m\t"]), NAMED), min_size=1, unique_by=lambda r: r[0].strip()
    ),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_file(tmp_path: Path, rows: list[tuple[str, str, str]], quoting: int) -> None:
    assert the_same(*read(write(tmp_path / "a.csv", rows, quoting)))


def test_both_mean_the_same_by_a_blank() -> None:
    """Every character there is: what Python strips, Arrow strips."""
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    assert pc.utf8_trim_whitespace(pa.array(every)).to_pylist() == [character.strip() for character in every]


def test_one_person_has_one_budget(tmp_path: Path) -> None:
    """Spent by a training, it is spent for an audit that writes the person with a blank, and the other way round."""
    training, audit = read(write(tmp_path / "a.csv", [("r1", "f", "p1"), ("r2", "f", " p1"), ("r3", "m", "p1\xa0")]))
    of = {"training": training.persons, "audit": tuple(audit.people(np.arange(3)))}
    cost, budget = gaussian_cost(2.0, 1e-5), Budget(2.0, 1e-5)
    for first, second in (("training", "audit"), ("audit", "training")):
        with Ledger(tmp_path / f"{first}.sqlite", by_person=True) as ledger:
            ledger.reserve(first, b"1", of[first], cost, budget)
            with pytest.raises(BudgetError, match="1 of 1 people in the request would exceed"):
                ledger.check(of[second], cost, budget)
