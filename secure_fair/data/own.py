"""Images of the auditor's own, with their attributes: records that the developer does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from secure_fair.data.attributes import AttributeTable, read_attributes
from secure_fair.data.images import ImageSet, TransformSpec
from secure_fair.data.labels import SPLITS, LabelTable
from secure_fair.data.tables import Problem, read_rows, refuse, shown

FILE = "images.csv"  # beside attributes.csv
MEND = "set images aside for the auditor with `secure-fair data prepare ... --auditor-images 0.25`"


@dataclass(frozen=True, repr=False)
class OwnImages:
    """The auditor's training images, and the table that names their attributes."""

    images: ImageSet
    table: AttributeTable

    @property
    def persons(self) -> list[str]:
        """Of each image."""
        return [self.table.persons[row] for row in self.table.rows(self.images.ids)]


def read_own(
    folder: Path,
    columns: Sequence[str],
    categories: Mapping[str, Sequence[str]],
    person: str | None,
    transform: TransformSpec,
) -> OwnImages:
    """Read FOLDER/images.csv. Raises DataError naming file, row, value and mend. Opens no image."""
    file = folder / FILE
    kept: list[tuple[str, Path, str]] = []
    for row, (record, path, split) in read_rows(file, ("id", "path", "split"), refuse, mend=MEND):
        if split not in SPLITS:
            refuse(Problem(file, row, f"split {shown(split)} is unknown", f"write one of {', '.join(SPLITS)}"))
        if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            refuse(Problem(file, row, f"path {shown(path)} is outside the folder", "name a file inside it"))
        kept.append((record, folder / path, split))
    table = LabelTable(
        ids=tuple(record for record, _, _ in kept),
        paths=tuple(path for _, path, _ in kept),
        labels=np.zeros(len(kept), dtype=np.int64),  # the auditor does not know the task's labels
        splits=np.array([split for _, _, split in kept], dtype=np.str_),
        classes=("unknown",),
        task="the auditor's images",
    )
    return OwnImages(ImageSet(table, "train", transform), read_attributes(file, columns, categories, person))
