"""CSV tables with findings that name file, row, value and mend."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from secure_fair.errors import DataError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a data set. `row` is the line of the file, 1 for its header; 0: the whole file."""

    file: Path
    row: int
    what: str
    mend: str

    def __str__(self) -> str:
        where = f"{self.file}, row {self.row}" if self.row else str(self.file)
        return f"{where}: {self.what}; {self.mend}"


Report = Callable[[Problem], None]
_MISSING = "write it with `secure-fair data prepare`, or name another folder"


def refuse(problem: Problem) -> None:
    """The report of a reader: the first problem ends the reading. Raises DataError."""
    raise DataError(str(problem))


def shown(value: str) -> str:
    """A value for a message: quoted and short."""
    return repr(value if len(value) <= 40 else value[:37] + "...")


def read_rows(
    file: Path, columns: Sequence[str], report: Report, *, mend: str = _MISSING
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (row number, the named columns' values) of a CSV file with a header; other columns are ignored.

    Blanks around a value are no part of it, here and in audit/columns.py: ids and persons have one name for both.
    Reports a missing or unreadable file, missing columns, and rows with more or fewer fields than the header.
    mend: of a missing file.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            missing = [name for name in columns if name not in header]
            if missing:
                found = ", ".join(header) or "nothing"
                report(
                    Problem(
                        file, 1, f"no column {', '.join(missing)} (found {found})", "add it, or name another column"
                    )
                )
                return
            at = [header.index(name) for name in columns]
            for fields in filter(None, reader):
                if len(fields) == len(header):
                    yield reader.line_num, tuple(fields[i].strip() for i in at)
                else:
                    counts = f"{len(fields)} fields instead of {len(header)}"
                    report(Problem(file, reader.line_num, counts, "mend or remove the row"))
            if reader.line_num <= 1:
                report(Problem(file, 0, "no record", "prepare the folder again"))
    except FileNotFoundError:
        report(Problem(file, 0, "missing file", mend))
    except OSError as error:
        report(Problem(file, 0, f"cannot be read ({error.strerror})", "give yourself read permission"))
    except (csv.Error, UnicodeDecodeError) as error:
        report(Problem(file, 0, f"not a UTF-8 CSV file ({error})", "write it again"))


def unique_ids(file: Path, report: Report) -> Callable[[int, str], bool]:
    """A test for new ids: reports an empty or a repeated one and says False."""
    seen: dict[str, int] = {}

    def is_new(row: int, record: str) -> bool:
        if not record:
            report(Problem(file, row, "empty id", "give every record an id"))
        elif record in seen:
            report(
                Problem(
                    file, row, f"duplicate id {shown(record)} (first in row {seen[record]})", "keep one of the rows"
                )
            )
        else:
            seen[record] = row
            return True
        return False

    return is_new


def read_json(file: Path, version: int, report: Report) -> dict[str, Any] | None:
    """Read an object with a `version`; reports a missing, malformed or newer file and gives None."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        report(Problem(file, 0, "missing file", _MISSING))
    except OSError as error:
        report(Problem(file, 0, f"cannot be read ({error.strerror})", "give yourself read permission"))
    except ValueError as error:
        report(Problem(file, 0, f"not JSON ({error})", "prepare the folder again"))
    else:
        if isinstance(content, dict) and content.get("version") == version:
            return content
        report(Problem(file, 0, f"not of version {version}", "prepare the folder again with this version"))
    return None


def are_names(value: object) -> TypeGuard[list[str]]:
    """Tell whether a JSON value is a list of two or more distinct, non-empty strings."""
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        return False
    return len(set(value)) == len(value) >= 2
