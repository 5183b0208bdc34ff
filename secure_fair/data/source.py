"""What the readers of real data sets give to `prepare`: images, coded columns, and splits and persons if known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from secure_fair.errors import DataError


@dataclass(frozen=True)
class Column:
    """codes: int64 [n], indices into categories."""

    codes: NDArray[np.int64]
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """n images with their columns. splits: train, val or test per image; persons: whose image it is.

    skipped: a line for each file that was left out, and why.
    """

    images: tuple[Path, ...]
    columns: dict[str, Column]
    splits: tuple[str, ...] | None = None
    persons: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = field(default=(), repr=False)

    def column(self, name: str) -> Column:
        """Find a column. Raises DataError listing the columns there are."""
        if name not in self.columns:
            raise DataError(f"no column {name!r}; the data set has {', '.join(self.columns)}")
        return self.columns[name]

    def join(self, name: str, parts: tuple[str, ...]) -> Source:
        """Join exclusive yes/no columns into one whose categories are their names.

        Raises DataError naming the first image with none or several of them.
        """
        if len(parts) < 2 or name in self.columns:
            raise DataError(f"join {name}: needs two or more columns and a name that is not taken")
        columns = [self.column(part) for part in parts]
        if any(column.categories != ("no", "yes") for column in columns):
            raise DataError(f"join {name}: joins yes/no columns only")
        table = np.stack([column.codes for column in columns])  # [k, n]
        wrong = np.flatnonzero(table.sum(axis=0) != 1)
        if len(wrong):
            which = [part for part, code in zip(parts, table[:, wrong[0]], strict=True) if code] or ["none"]
            raise DataError(
                f"join {name}: {self.images[wrong[0]].name} has {' and '.join(which)} of {', '.join(parts)} "
                f"({len(wrong)} such images); join columns of which each image has exactly one"
            )
        return replace(self, columns=self.columns | {name: Column(table.argmax(axis=0), parts)})
