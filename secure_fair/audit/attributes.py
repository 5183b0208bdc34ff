"""The auditor's table, in compact form: a byte an attribute and record. Only the auditor's process imports this."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from secure_fair.audit.columns import Ids, Table, codes, sorted_ids
from secure_fair.errors import DataError, RefusedError
from secure_fair.privacy.policy import Policy
from secure_fair.sections import CROSS

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CATEGORIES = 256
Rows = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class AuditTable:
    """N records in ascending order of their ids. Its repr shows no value.

    codes: of each base attribute, uint8 [N]; persons: whose each record is, or None: its own.
    """

    ids: Ids
    categories: dict[str, tuple[str, ...]]
    codes: dict[str, NDArray[np.uint8]]
    persons: pa.Array | None

    def __repr__(self) -> str:
        return f"AuditTable({len(self.ids)} records, columns {', '.join(self.codes)}, values hidden)"

    def rows(self, hashes: NDArray[np.uint64], key: bytes) -> Rows:
        """Row of each record whose id has this keyed hash. Raises RefusedError if there are others, or one twice.

        Depends on ids only.
        """
        ours = self.ids.keyed(key)
        order = np.argsort(ours, kind="stable")
        places = np.minimum(np.searchsorted(ours, hashes, sorter=order), len(ours) - 1)
        rows: Rows = order[places]
        unknown = int((ours[rows] != hashes).sum())
        if unknown:
            raise RefusedError(
                f"{unknown} of {len(hashes)} record ids are not in the auditor's table; audit records that both know"
            )
        if len(np.unique(rows)) < len(rows):
            raise RefusedError("the developer named a record twice; send each id once")
        return rows

    def people(self, rows: Rows) -> Iterator[str]:
        """Whose records these are; a person may come several times."""
        import pyarrow as pa

        source = self.ids.values if self.persons is None else self.persons
        yield from Ids(source.take(pa.array(rows)))

    def per_person(self, rows: Rows) -> int:
        """The most records of one person among these; depends on ids and persons only."""
        if self.persons is None:
            return 1
        import pyarrow as pa
        import pyarrow.compute as pc

        counts = pc.value_counts(self.persons.take(pa.array(rows)))
        return int(pc.max(counts.field("counts")).as_py())

    def groups(self, column: str, rows: Rows) -> NDArray[np.int32]:
        """Group of each record, for an attribute or an intersection."""
        first, *others = column.split(CROSS)
        found = self.codes[first][rows].astype(np.int32)
        for other in others:
            found = found * len(self.categories[other]) + self.codes[other][rows]
        return found

    def commitment(self, key: bytes, columns: Sequence[str], rows: Rows) -> str:
        """Binds the auditor to these records' values; the same for the same values, and so shows a change.

        Its key is that of one question: these ids in this order, these columns and categories. So (HMAC-SHA256 being
        pseudorandom) no two questions' commitments say anything about each other; with one key for all, equal
        commitments would be equal attributes. Of one question they say exactly whether a value has changed: that is
        for who has been debited.
        """
        base = {part: self.categories[part] for column in columns for part in column.split(CROSS)}
        question = {"ids": self.ids.take(rows).digest(), "columns": list(columns), "categories": base}
        own = hmac.digest(key, b"audit table\0" + json.dumps(question, sort_keys=True).encode(), "sha256")
        digest = hmac.new(own, digestmod=hashlib.sha256)
        for column in columns:
            digest.update(self.groups(column, rows).astype("<i4").data)
        return f"sha256:{digest.hexdigest()}"


def read_audit_table(file: Path, columns: Sequence[str], policy: Policy) -> AuditTable:
    """Read the columns that the attributes and intersections need; categories and person column are the policy's.

    Raises DataError naming file, row, value and mend.
    """
    policy.categories_of(columns)  # refuses unknown ones
    base = list(dict.fromkeys(part for column in columns for part in column.split(CROSS)))
    for name in base:
        if len(policy.categories[name]) > MAX_CATEGORIES:
            raise DataError(f"{file}: {name} has more than {MAX_CATEGORIES} categories; merge some")
    table = Table(file)
    ids: list[pa.Array] = []
    persons: list[pa.Array] = []
    found: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in base}
    for start, block in table.blocks(["id", *base, *([policy.person] if policy.person else [])]):
        ids.append(block[0])
        for name, texts in zip(base, block[1:], strict=False):
            found[name].append(codes(table, start, texts, policy.categories[name], name))
        if policy.person:
            persons.append(block[-1])
            _require_persons(table, start, block[-1], policy.person)
    order_ids, order = sorted_ids(table, ids)
    import pyarrow as pa

    return AuditTable(
        order_ids,
        {name: policy.categories[name] for name in base},
        {name: np.concatenate(parts)[order] for name, parts in found.items()},
        pa.concat_arrays(persons).take(pa.array(order)) if policy.person else None,
    )


def categories_in(file: Path, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of each column: for a simulation without a policy of its own, whose user holds the table anyway."""
    seen: dict[str, set[str]] = {name: set() for name in columns}
    table = Table(file)
    for _, block in table.blocks(list(columns)):
        for name, texts in zip(columns, block, strict=True):
            seen[name].update(texts.unique().to_pylist())
            if len(seen[name]) > MAX_GUESSED:
                raise table.refuse(
                    -1, f"column {name!r} has more than {MAX_GUESSED} values", "name the attributes: --columns A,B"
                )
    found = {name: tuple(sorted(values - {""})) for name, values in seen.items()}
    for name, names in found.items():
        if len(names) < MIN_CATEGORIES:
            raise table.refuse(-1, f"column {name!r} has fewer than two values", "name the attributes: --columns A,B")
    return found


MIN_CATEGORIES, MAX_GUESSED = 2, 20


def _require_persons(table: Table, start: int, column: pa.Array, name: str) -> None:
    import pyarrow.compute as pc

    empty = np.flatnonzero(pc.equal(column, "").to_numpy(zero_copy_only=False))
    if empty.size:
        raise table.refuse(start + int(empty[0]), f"{name} is missing", "fill it in or remove the row")
