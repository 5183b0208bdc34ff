"""The auditor's table: which record has which sensitive attributes, and whose record it is.

Categories are public and come from the policy or the schema, never from the data: a category that happens to be
absent must not change a shape on the wire. Only the auditor's process, and tools that hold both sides, import this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from secure_fair.data.tables import Problem, Report, are_names, read_json, read_rows, refuse, shown, unique_ids
from secure_fair.errors import DataError
from secure_fair.sections import CROSS

VERSION = 1


@dataclass(frozen=True)
class Schema:
    """Public facts of an attribute table: attribute -> its category names, and the person column, if any."""

    attributes: dict[str, tuple[str, ...]]
    person: str | None


@dataclass(frozen=True, repr=False)
class AttributeTable:
    """Attributes of n records, in the file's order.

    codes: per column int64 [n], indices into categories[column]; persons: n, the record's own id where there is no
    person column. Its repr shows shapes only, since tracebacks and logs travel.
    """

    ids: tuple[str, ...]
    codes: dict[str, NDArray[np.int64]]
    categories: dict[str, tuple[str, ...]]
    persons: tuple[str, ...]

    def __repr__(self) -> str:
        """Number of records and the columns, no value."""
        return f"AttributeTable({len(self.ids)} records, columns {', '.join(self.codes)}, values hidden)"

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {record: row for row, record in enumerate(self.ids)}

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Row of each id, int64 [n]. Raises DataError naming the first unknown id; depends on ids only."""
        try:
            return np.array([self._rows[record] for record in ids], dtype=np.int64)
        except KeyError as error:
            raise DataError(f"attribute table: no record {shown(str(error.args[0]))}; align the two tables") from None

    def one_hot(self, column: str, ids: Sequence[str]) -> NDArray[np.int64]:
        """One-hot rows [n, K] of `column` in the order of `ids`. Raises DataError on an unknown id or column."""
        if column not in self.codes:
            raise DataError(f"attribute table: no column {shown(column)}; it has {', '.join(self.codes)}")
        encoded: NDArray[np.int64] = np.eye(len(self.categories[column]), dtype=np.int64)[
            self.codes[column][self.rows(ids)]
        ]
        return encoded


def read_schema(file: Path) -> Schema:
    """Read schema.json. Raises DataError."""
    return scan_schema(file, refuse)


def scan_schema(file: Path, report: Report) -> Schema:
    """As read_schema, with every problem reported and only sound attributes kept."""
    content = read_json(file, VERSION, report) or {"attributes": {}}
    attributes, person = content.get("attributes"), content.get("person")
    if not isinstance(attributes, dict) or not (person is None or isinstance(person, str)):
        report(Problem(file, 0, "no `attributes` object, or a `person` that is no name", "prepare the folder again"))
        return Schema({}, None)
    sound: dict[str, tuple[str, ...]] = {}
    for name, categories in attributes.items():
        if are_names(categories):
            sound[name] = tuple(categories)
        else:
            report(Problem(file, 0, f"{name} needs two or more distinct category names", "write them as a list"))
    return Schema(sound, person)


def read_attributes(
    file: Path, columns: Sequence[str], categories: Mapping[str, Sequence[str]], person: str | None = None
) -> AttributeTable:
    """Read the named columns of attributes.csv. Raises DataError naming file, row, value and mend.

    "A*B" is the intersection of two columns: one attribute with their product's categories, A's varying slowest.
    """
    parts = list(dict.fromkeys(part for column in columns for part in column.split(CROSS)))
    return _joined(scan_attributes(file, parts, categories, person, refuse), columns)


def _joined(table: AttributeTable, columns: Sequence[str]) -> AttributeTable:
    """The table with exactly `columns`, of which some may be intersections."""
    codes: dict[str, NDArray[np.int64]] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for column in columns:
        first, *others = column.split(CROSS)
        codes[column], categories[column] = table.codes[first], table.categories[first]
        for other in others:
            names = table.categories[other]
            codes[column] = codes[column] * len(names) + table.codes[other]
            categories[column] = tuple(f"{a}{CROSS}{b}" for a in categories[column] for b in names)
    return AttributeTable(table.ids, codes, categories, table.persons)


def scan_attributes(
    file: Path, columns: Sequence[str], categories: Mapping[str, Sequence[str]], person: str | None, report: Report
) -> AttributeTable:
    """As read_attributes, with every problem reported and only sound rows kept."""
    for name in columns:
        if name not in categories:
            report(Problem(file, 1, f"column {name} has no categories", "list them in the policy or in schema.json"))
    codes = {name: {c: i for i, c in enumerate(categories[name])} for name in columns if name in categories}
    is_new = unique_ids(file, report)
    ids: list[str] = []
    persons: list[str] = []
    kept: list[list[int]] = []
    for row, (record, *values) in read_rows(file, ("id", *codes, *([person] if person else [])), report):
        if not is_new(row, record):
            continue
        found: list[int] = []
        for name, value in zip(codes, values, strict=False):
            if value in codes[name]:
                found.append(codes[name][value])
            elif value:
                mend = f"write one of {', '.join(codes[name])}"
                report(Problem(file, row, f"{name} of {shown(record)} is {shown(value)}, not a category", mend))
            else:
                report(Problem(file, row, f"{name} of {shown(record)} is missing", "fill it in or remove the row"))
        if person and not values[-1]:
            report(Problem(file, row, f"{person} of {shown(record)} is missing", "fill it in or remove the row"))
        elif len(found) == len(codes):
            ids.append(record)
            persons.append(values[-1] if person else record)
            kept.append(found)
    table = np.array(kept, dtype=np.int64).reshape(len(ids), len(codes))
    return AttributeTable(
        ids=tuple(ids),
        codes={name: table[:, i].copy() for i, name in enumerate(codes)},
        categories={name: tuple(categories[name]) for name in codes},
        persons=tuple(persons),
    )
