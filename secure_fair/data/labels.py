"""The developer's table: which image has which task label, in which split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from secure_fair.data.tables import Problem, Report, are_names, read_json, read_rows, refuse, shown, unique_ids

VERSION = 1
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class LabelTable:
    """Records of a prepared developer's folder, ordered by id.

    ids, paths: n each; labels: int64 [n], indices into classes; splits: str [n], each one of SPLITS.
    """

    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    classes: tuple[str, ...]
    task: str


def read_labels(root: Path) -> LabelTable:
    """Read `root`/labels.csv and data.json. Raises DataError naming file, row, value and mend. Opens no image."""
    return scan_labels(root, refuse)


def scan_labels(root: Path, report: Report) -> LabelTable:
    """As read_labels, with every problem reported and only sound rows kept."""
    task, classes = _scan_task(root / "data.json", report)
    file = root / "labels.csv"
    codes = {name: code for code, name in enumerate(classes)}
    is_new = unique_ids(file, report)
    kept: list[tuple[str, Path, int, str]] = []
    for row, (record, path, label, split) in read_rows(file, ("id", "path", "label", "split"), report):
        if not is_new(row, record):
            continue
        if not label:
            report(Problem(file, row, f"label missing for {shown(record)}", "label the image or remove the row"))
        elif classes and label not in codes:
            mend = f"write one of {', '.join(classes)}"
            report(Problem(file, row, f"label {shown(label)} is not a class of {task}", mend))
        elif split not in SPLITS:
            report(Problem(file, row, f"split {shown(split)} is unknown", f"write one of {', '.join(SPLITS)}"))
        elif not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            report(Problem(file, row, f"path {shown(path)} is outside the folder", "name a file inside it"))
        else:
            kept.append((record, root / path, codes.get(label, 0), split))
    kept.sort()
    for code, name in enumerate(classes):
        if kept and not any(label == code and split == "train" for _, _, label, split in kept):
            report(Problem(file, 0, f"no training record has the label {shown(name)}", "add some, or drop the class"))
    return LabelTable(
        ids=tuple(record for record, _, _, _ in kept),
        paths=tuple(path for _, path, _, _ in kept),
        labels=np.array([label for _, _, label, _ in kept], dtype=np.int64),
        splits=np.array([split for _, _, _, split in kept], dtype=np.str_),
        classes=classes,
        task=task,
    )


def _scan_task(file: Path, report: Report) -> tuple[str, tuple[str, ...]]:
    content = read_json(file, VERSION, report)
    if content is None:
        return "", ()
    task, classes = content.get("task"), content.get("classes")
    if isinstance(task, str) and are_names(classes):
        return task, tuple(classes)
    report(Problem(file, 0, "no `task` with two or more distinct `classes`", "prepare the folder again"))
    return "", ()
