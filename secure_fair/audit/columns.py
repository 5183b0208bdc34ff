"""Columns of a CSV or Parquet table, streamed in blocks by pyarrow, and sorted record ids in compact form."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secure_fair.data.tables import Problem, shown
from secure_fair.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 16  # records
_BLOCK_BYTES = 1 << 22  # of CSV text
PARQUET = b"PAR1"


class Table:
    """A table that is read once, in blocks of text columns. Raises DataError naming file, row and mend.

    A file that is another one at the end than it was at the beginning is refused: its parts need not belong together.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            with file.open("rb") as stream:
                self._parquet = stream.read(4) == PARQUET
        except FileNotFoundError:
            raise DataError(f"{file}: missing file; mend the path") from None
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror}); mend the path or its permissions") from None
        self.header = self._header()

    def refuse(self, row: int, what: str, mend: str) -> DataError:
        """An error about the record of this index, counted from 0; -1: about the whole file."""
        line = 0 if row < 0 else row + 1 if self._parquet else row + 2
        return DataError(str(Problem(self.file, line, what, mend)))

    def require(self, columns: Sequence[str]) -> None:
        """Raise DataError unless these columns exist, once each."""
        for name in columns:
            if self.header.count(name) != 1:
                found = ", ".join(self.header) or "nothing"
                what = f"no column {name!r}" if name not in self.header else f"column {name!r} occurs twice"
                raise self.refuse(-1, f"{what} (found {found})", "add it, or name another column")

    def blocks(self, columns: Sequence[str]) -> Iterator[tuple[int, list[pa.Array]]]:
        """(index of the first record, the columns as text without blanks around it); a missing value is an empty text.

        A person has to have one name for every reader of a table: two would be two budgets (see data/tables.py).
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        self.require(columns)
        before, start = self._identity(), 0
        try:
            for batch in self._batches(list(columns)):
                texts = (pc.fill_null(batch.column(name).cast(pa.string()), "") for name in columns)
                yield start, [pc.utf8_trim_whitespace(text) for text in texts]
                start += len(batch)
        except (pa.ArrowException, OSError) as error:
            if self._identity() == before:
                raise self.refuse(-1, f"not a readable table ({_first_line(error)})", "write it again") from None
        if self._identity() != before:
            raise self.refuse(-1, "changed while it was read", "wait until it is complete, and start again")
        if start == 0:
            raise self.refuse(-1, "no record", "write it again")

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        if self._parquet:
            import pyarrow.parquet as pq

            with pq.ParquetFile(self.file) as table:
                yield from table.iter_batches(BLOCK, columns=columns)
            return
        from pyarrow import csv

        convert = csv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, pa.string()))
        read = csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False)
        parse = csv.ParseOptions(newlines_in_values=True)
        with csv.open_csv(self.file, read_options=read, parse_options=parse, convert_options=convert) as reader:
            yield from reader

    def _header(self) -> list[str]:
        import pyarrow as pa

        try:
            if self._parquet:
                import pyarrow.parquet as pq

                return list(pq.read_schema(self.file).names)
            from pyarrow import csv

            with csv.open_csv(self.file, read_options=csv.ReadOptions(use_threads=False)) as reader:
                return list(reader.schema.names)
        except (pa.ArrowException, OSError) as error:
            raise self.refuse(-1, f"not a CSV or Parquet table ({_first_line(error)})", "write it again") from None

    def _identity(self) -> tuple[int, int, int]:
        try:
            stat = self.file.stat()
        except OSError:
            return (-1, -1, -1)
        return stat.st_ino, stat.st_size, stat.st_mtime_ns


@dataclass(frozen=True, repr=False)
class Ids:
    """Record ids in ascending order, as an Arrow array: about twenty bytes a record."""

    values: pa.StringArray

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.values), BLOCK):
            yield from self.values.slice(start, BLOCK).to_pylist()

    def take(self, rows: NDArray[np.int64]) -> Ids:
        """The ids of these rows."""
        import pyarrow as pa

        return Ids(self.values.take(pa.array(rows)))

    def digest(self) -> str:
        """SHA-256 of the ids with their lengths: what an auditor freezes in its policy."""
        digest = hashlib.sha256()
        for record in self:
            encoded = record.encode()
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
        return f"sha256:{digest.hexdigest()}"

    def keyed(self, key: bytes) -> NDArray[np.uint64]:
        """A 64-bit keyed hash of each id: without the key, nobody can match it with a guessed id."""
        hashes = bytearray()
        for record in self:
            hashes += hashlib.blake2b(record.encode(), digest_size=8, key=key).digest()
        return np.frombuffer(bytes(hashes), dtype="<u8")


def sorted_ids(table: Table, chunks: list[pa.Array]) -> tuple[Ids, NDArray[np.int64]]:
    """(ids in order, where each stood in the table). Raises DataError for an empty or a repeated id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = pa.concat_arrays(chunks)
    order = pc.sort_indices(column)
    ids = column.take(order)
    places: NDArray[np.int64] = order.to_numpy().astype(np.int64)
    if ids[0].as_py() == "":
        raise table.refuse(int(places[0]), "empty id", "give every record an id")
    same = np.flatnonzero(pc.equal(ids[:-1], ids[1:]).to_numpy(zero_copy_only=False))
    if same.size:
        first, second = sorted(places[same[0] : same[0] + 2].tolist())
        twice = f"duplicate id {shown(ids[int(same[0])].as_py())} (first as record {first + 1} of the table)"
        raise table.refuse(second, twice, "keep one of the rows")
    return Ids(ids), places


def read_ids(file: Path, split: str | None) -> Ids:
    """The ids of a table, or of the rows of one split."""
    import pyarrow.compute as pc

    table, chunks = Table(file), []
    for _, block in table.blocks(["id", *(["split"] if split else [])]):
        chunks.append(block[0].filter(pc.equal(block[1], split)) if split else block[0])
    return sorted_ids(table, chunks)[0]


def codes(table: Table, start: int, column: pa.Array, names: Sequence[str], what: str) -> NDArray[np.uint8]:
    """Index of each text in `names`, at most 256 of them. Raises DataError for the first that is none of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(column, value_set=pa.array(list(names), pa.string()))
    if found.null_count:
        row = int(np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False))[0])
        value = column[row].as_py()
        problem = f"{what} is missing" if value == "" else f"{what} {shown(value)} is not one of {_listed(names)}"
        raise table.refuse(start + row, problem, "mend or remove the row")
    out: NDArray[np.uint8] = found.to_numpy().astype(np.uint8)
    return out


def numbers(table: Table, start: int, column: pa.Array, what: str) -> NDArray[np.float64]:
    """The column as finite numbers. Raises DataError for the first that is none."""
    import pyarrow as pa

    try:
        values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        values = np.array([_number(text) for text in column.to_pylist()])
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        row = int(bad[0])
        raise table.refuse(
            start + row, f"{what} {shown(column[row].as_py())} is not a finite number", "mend or remove the row"
        )
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _first_line(error: Any) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
