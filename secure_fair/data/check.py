"""Finds everything that is wrong with a prepared folder, in one pass, instead of the first thing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from secure_fair.data.alignment import differences
from secure_fair.data.attributes import AttributeTable, scan_attributes, scan_schema
from secure_fair.data.folders import Progress, no_progress
from secure_fair.data.jpeg import BROKEN
from secure_fair.data.labels import SPLITS, LabelTable, scan_labels
from secure_fair.data.tables import Problem, read_rows, shown
from secure_fair.errors import DataError


@dataclass(frozen=True)
class Findings:
    """What was looked at, and every problem."""

    problems: tuple[Problem, ...]
    records: int
    images: int
    attributes: tuple[str, ...]


def check(root: Path, progress: Progress = no_progress) -> Findings:
    """Check OUT (with developer/ and auditor/ or one of them), or one party's folder alone; decodes every image.

    Raises DataError when there is nothing to check.
    """
    developer = _first(root / "developer", root, "labels.csv", "data.json")
    auditor = _first(root / "auditor", root, "attributes.csv", "schema.json")
    if developer is None and auditor is None:
        raise DataError(f"{root}: no labels.csv and no attributes.csv; name a folder that `data prepare` wrote")
    problems: list[Problem] = []
    labels = scan_labels(developer, problems.append) if developer else None
    attributes = None
    pictures: list[tuple[Path, int, Path]] = []  # table, row, image
    if developer and labels:
        rows = _row_numbers(developer / "labels.csv")
        pictures += [
            (developer / "labels.csv", rows[i], path) for i, path in zip(labels.ids, labels.paths, strict=True)
        ]
        problems += _trespass(developer, ("attributes.csv", "schema.json"), "the developer may not hold attributes")
    if auditor:
        schema = scan_schema(auditor / "schema.json", problems.append)
        columns = tuple(schema.attributes)
        file = auditor / "attributes.csv"
        attributes = scan_attributes(file, columns, schema.attributes, schema.person, problems.append)
        problems += _empty_groups(file, attributes, labels)
        problems += _trespass(auditor, ("labels.csv", "data.json"), "the auditor may not hold task labels")
        if (auditor / "images.csv").is_file():
            own = read_rows(auditor / "images.csv", ("path",), problems.append)
            pictures += [(auditor / "images.csv", row, auditor / path) for row, (path,) in own]
    if developer and auditor:
        problems += _unaligned(developer / "labels.csv", auditor / "attributes.csv")
    problems += _pictures(pictures, progress)
    return Findings(
        problems=tuple(problems),
        records=len(labels.ids if labels else attributes.ids if attributes else ()),
        images=len(pictures),
        attributes=tuple(attributes.codes) if attributes else (),
    )


def _first(inner: Path, outer: Path, *names: str) -> Path | None:
    if inner.is_dir():
        return inner
    return outer if any((outer / name).is_file() for name in names) else None


def _row_numbers(file: Path) -> Mapping[str, int]:
    return {record: row for row, (record,) in read_rows(file, ("id",), lambda problem: None)}


def _trespass(folder: Path, names: Sequence[str], what: str) -> Iterable[Problem]:
    found = (folder / name for name in names)
    return [Problem(path, 0, what, "move it to the other party") for path in found if path.exists()]


def _empty_groups(file: Path, table: AttributeTable, labels: LabelTable | None) -> Iterable[Problem]:
    """A group without any record, or without one in some split: its rates would have no meaning."""
    parts = {"the table": np.ones(len(table.ids), dtype=bool)}
    if labels is not None:
        split_of = dict(zip(labels.ids, labels.splits.tolist(), strict=True))
        splits = np.array([split_of.get(record, "") for record in table.ids])
        parts |= {f"the split {split}": splits == split for split in SPLITS if split in set(split_of.values())}
    for name, codes in table.codes.items() if table.ids else ():
        for code, category in enumerate(table.categories[name]):
            empty = [part for part, chosen in parts.items() if not np.any(codes[chosen] == code)]
            if empty:
                what = f"empty group: no record of {empty[0]} has {name} {shown(category)}"
                yield Problem(file, 0, what, "add records, join groups, or drop the category from schema.json")


def _unaligned(labels: Path, attributes: Path) -> Iterable[Problem]:
    ours, theirs = _row_numbers(labels), _row_numbers(attributes)
    if not ours or not theirs:
        return  # an unreadable table is reported once, not once a record
    only_ours, only_theirs = differences(tuple(ours), tuple(theirs))
    mend = "remove the row, or add the record to the other table"
    for record in only_ours:
        yield Problem(labels, ours[record], f"id {shown(record)} is unknown in {attributes.name}", mend)
    for record in only_theirs:
        yield Problem(attributes, theirs[record], f"id {shown(record)} is unknown in {labels.name}", mend)


def _pictures(pictures: Sequence[tuple[Path, int, Path]], progress: Progress) -> Iterable[Problem]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, problem in enumerate(pool.map(_picture, pictures), 1):
            progress(done, len(pictures))
            if problem is not None:
                yield problem


def _picture(place: tuple[Path, int, Path]) -> Problem | None:
    table, row, path = place
    try:
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        return Problem(table, row, f"missing file {path}", "restore it or remove the row")
    except BROKEN as error:
        return Problem(table, row, f"broken JPEG {path} ({error})", "replace it or remove the row")
    return None
