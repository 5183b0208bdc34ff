"""Splits a data set into what the developer may hold and what the auditor holds.

    OUT/developer/labels.csv, data.json, images/rNNN/rNNNNNN.jpg
    OUT/auditor/attributes.csv, schema.json [, images.csv, images/: records of its own, which the developer lacks]

Ids follow a keyed hash of the stripped picture, so they say nothing that the picture does not: whoever knows the seed
and the original order (UTK-Face sorts by age) still cannot undo them, as a seeded shuffle could be undone. Files are
made in an order drawn from the operating system and carry one fixed time, so neither inode nor date tells the order.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from secure_fair.data import attributes, jpeg, labels
from secure_fair.data.folders import Progress, no_progress, whole_folder
from secure_fair.data.source import Source
from secure_fair.errors import DataError

_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # where the data set brings no split of its own
_PERSON = "identity"
_FIXED_TIME = 946_684_800  # 2000-01-01


@dataclass(frozen=True)
class PrepareSettings:
    """What goes where.

    joins: name -> exclusive yes/no columns that become one attribute or task. person: add the column `identity` to the
    auditor's table. auditor_images: fraction of the train and val records (whole persons, when they are known) that
    the auditor gets with their images and the developer does not get at all.
    """

    task: str
    sensitive: tuple[str, ...]
    joins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    person: bool = False
    auditor_images: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise DataError naming the option that is wrong."""
        if not self.sensitive or len(set(self.sensitive)) != len(self.sensitive) or self.task in self.sensitive:
            raise DataError(
                f"sensitive {', '.join(self.sensitive) or 'nothing'}: name distinct columns, none of them the task"
            )
        if not 0 <= self.auditor_images < 1:
            raise DataError(f"auditor images {self.auditor_images}: write a fraction from 0 to below 1")


@dataclass(frozen=True)
class _Record:
    id: str
    index: int  # in the source
    split: str
    person: str


def prepare(source: Source, out: Path, settings: PrepareSettings, progress: Progress = no_progress) -> dict[str, Any]:
    """Write the two folders under the new folder `out`; return counts and categories.

    Every image is decoded once. Raises DataError naming the option, the column or the broken image; `out` then does
    not exist.
    """
    for name, parts in settings.joins.items():
        source = source.join(name, parts)
    task = source.column(settings.task)
    for name in settings.sensitive:
        source.column(name)
    if settings.person and source.persons is None:
        raise DataError("person: this data set says nothing of persons (CelebA: identity_CelebA.txt is missing)")
    with whole_folder(out) as folder:
        incoming = folder / "incoming"
        incoming.mkdir()
        records = _records(source, _take_in(source, incoming, settings.seed, progress), settings)
        own = _auditors_own(records, settings)
        shared = [record for record in records if record.id not in own]
        developer, auditor = folder / "developer", folder / "auditor"
        developer.mkdir()
        auditor.mkdir(mode=0o700)
        kept = [(r.id, _place(incoming, developer, r), task.categories[task.codes[r.index]], r.split) for r in shared]
        _write_csv(developer / "labels.csv", ("id", "path", "label", "split"), kept)
        _write_json(developer / "data.json", labels.VERSION, {"task": settings.task, "classes": list(task.categories)})
        columns = (*settings.sensitive, *([_PERSON] if settings.person else []))
        rows = ((r.id, *_values(source, settings, r)) for r in shared)
        _write_csv(auditor / "attributes.csv", ("id", *columns), rows)
        categories = {name: list(source.columns[name].categories) for name in settings.sensitive}
        schema = {"attributes": categories, "person": _PERSON if settings.person else None}
        _write_json(auditor / "schema.json", attributes.VERSION, schema)
        if own:
            placed = [
                (r.id, _place(incoming, auditor, r), r.split, *_values(source, settings, r)) for r in own.values()
            ]
            _write_csv(auditor / "images.csv", ("id", "path", "split", *columns), placed)
        incoming.rmdir()
    return {
        "out": str(out),
        "task": {settings.task: list(task.categories)},
        "attributes": categories,
        "records": {split: sum(r.split == split for r in shared) for split in labels.SPLITS},
        "test": _cells(source, settings, [record.index for record in shared if record.split == "test"]),
        "auditor_images": len(own),
        "skipped": len(source.skipped),
    }


def _cells(source: Source, settings: PrepareSettings, rows: Sequence[int]) -> dict[str, int]:
    """How many of these are of each group and label; for whoever prepares, and for neither folder."""
    task = source.column(settings.task)
    return {
        f"{name}={group}, {settings.task}={label}": sum(column.codes[row] == g and task.codes[row] == c for row in rows)
        for name in settings.sensitive
        for column in [source.column(name)]
        for g, group in enumerate(column.categories)
        for c, label in enumerate(task.categories)
        if rows
    }


def _take_in(source: Source, incoming: Path, seed: int, progress: Progress) -> dict[int, bytes]:
    """Copy every image, stripped, to incoming/INDEX; give the keyed hash of each."""
    order = list(range(len(source.images)))
    secrets.SystemRandom().shuffle(order)
    hashes: dict[int, bytes] = {}
    broken: list[str] = []

    def take(index: int) -> bytes:
        picture = jpeg.strip(source.images[index].read_bytes())
        (incoming / str(index)).write_bytes(picture)
        os.utime(incoming / str(index), (_FIXED_TIME, _FIXED_TIME))
        return _hash(seed, "picture", picture)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            for done, (index, future) in enumerate([(index, pool.submit(take, index)) for index in order], 1):
                try:
                    hashes[index] = future.result()
                except jpeg.BROKEN as error:
                    broken.append(f"{source.images[index]}: broken JPEG ({error})")
                progress(done, len(order))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise DataError(f"{min(broken)}{more}; replace the file, or remove it and its rows in the lists")
    return hashes


def _records(source: Source, hashes: Mapping[int, bytes], settings: PrepareSettings) -> list[_Record]:
    """Ids in the order of the pictures' hashes; splits, where there are none, by a hash of their own."""
    # Equal pictures tie; their names decide, hashed so that the result can be repeated.
    names = {index: _hash(settings.seed, "name", source.images[index].name.encode()) for index in hashes}
    order = sorted(hashes, key=lambda index: (hashes[index], names[index]))
    width = max(6, len(str(len(order))))
    splits = source.splits
    if splits is None:
        drawn = sorted(hashes, key=lambda index: (_hash(settings.seed, "split", hashes[index]), names[index]))
        counts = [round(share * len(order)) for share in _SHARES.values()]
        cut = {**dict.fromkeys(drawn, "test"), **dict.fromkeys(drawn[: counts[0] + counts[1]], "val")}
        cut |= dict.fromkeys(drawn[: counts[0]], "train")
        splits = tuple(cut[index] for index in range(len(order)))
    return [
        _Record(f"r{number:0{width}d}", index, splits[index], source.persons[index] if source.persons else f"r{number}")
        for number, index in enumerate(order)
    ]


def _auditors_own(records: Sequence[_Record], settings: PrepareSettings) -> dict[str, _Record]:
    """Whole persons, in the order of a keyed hash, until the fraction is reached."""
    wanted = settings.auditor_images * sum(record.split != "test" for record in records)
    members: dict[str, list[_Record]] = {}
    for record in records:
        if record.split != "test":
            members.setdefault(record.person, []).append(record)
    own: dict[str, _Record] = {}
    for person in sorted(members, key=lambda person: _hash(settings.seed, "own", person.encode())):
        if len(own) >= wanted:
            break
        own |= {record.id: record for record in members[person]}
    return dict(sorted(own.items()))


def _values(source: Source, settings: PrepareSettings, record: _Record) -> Iterator[str]:
    for name in settings.sensitive:
        column = source.columns[name]
        yield column.categories[column.codes[record.index]]
    if settings.person:
        yield record.person


def _place(incoming: Path, party: Path, record: _Record) -> str:
    path = f"images/{record.id[:-3]}/{record.id}.jpg"
    (party / path).parent.mkdir(parents=True, exist_ok=True)
    (incoming / str(record.index)).rename(party / path)
    return path


def _hash(seed: int, purpose: str, data: bytes) -> bytes:
    return blake2b(data, digest_size=16, key=f"{purpose} {seed}".encode()).digest()


def _write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_json(file: Path, version: int, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps({"version": version, **content}, indent=2) + "\n", encoding="utf-8")
