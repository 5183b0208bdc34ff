"""CelebA (Liu et al. 2015) as it is distributed: aligned images, and list files in plain text.

Found under the root, its `Anno`, `Eval` and `Img` folders (the official archive) or as the CSV files of the widespread
mirror, with the images one folder deeper.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from secure_fair.data.source import Column, Source
from secure_fair.errors import DataError

_SPLITS = {"0": "train", "1": "val", "2": "test"}


def read(root: Path) -> Source:
    """Read the lists and check that every image is there; opens no image.

    Raises DataError naming file, row, value and mend.
    """
    file = _find(root, "list_attr_celeba")
    images = _images(root)
    rows = _rows(file)
    row, names = next(rows, (0, []))
    expected = None
    if len(names) == 1 and names[0].isdigit():
        expected = int(names[0])
        row, names = next(rows, (row + 1, []))
    names = names[1:] if names[:1] == ["image_id"] else names
    if len(set(names)) != len(names) or not names:
        raise DataError(f"{file}, row {row}: not a row of distinct column names; restore the file")
    files: dict[str, int] = {}
    values: list[list[int]] = []
    on_disk = {path.name for path in images.iterdir()}
    for row, (name, *signs) in rows:
        if name in files:
            raise DataError(
                f"{file}, row {row}: duplicate id {name!r} (first in row {files[name]}); keep one of the rows"
            )
        if name not in on_disk:
            raise DataError(f"{file}, row {row}: missing file {images / name}; restore the image or remove the row")
        if len(signs) != len(names):
            raise DataError(f"{file}, row {row}: {len(signs)} values instead of {len(names)}; mend or remove the row")
        wrong = next((pair for pair in zip(names, signs, strict=True) if pair[1] not in {"1", "-1", "+1"}), None)
        if wrong:
            raise DataError(f"{file}, row {row}: {wrong[0]} of {name} is {wrong[1]!r}; write 1 or -1")
        files[name] = row
        values.append([sign != "-1" for sign in signs])
    if not files or expected not in {None, len(files)}:
        raise DataError(f"{file}: {len(files)} rows instead of {expected or 'some'}; restore the file")
    table = np.array(values, dtype=np.int64)
    return Source(
        images=tuple(images / name for name in files),
        columns={name: Column(table[:, i], ("no", "yes")) for i, name in enumerate(names)},
        splits=tuple(_lookup(_find(root, "list_eval_partition"), files, _SPLITS)),
        persons=_persons(root, files),
    )


def _persons(root: Path, files: dict[str, int]) -> tuple[str, ...] | None:
    """The identity list is handed out on request only, so it may be absent."""
    found = [path for path in _places(root, "identity_CelebA") if path.is_file()]
    return tuple(_lookup(found[0], files, None)) if found else None


def _lookup(file: Path, files: dict[str, int], meaning: dict[str, str] | None) -> Iterator[str]:
    found: dict[str, str] = {}
    for row, fields in _rows(file):
        if fields[0] == "image_id":
            continue
        if len(fields) != 2 or (meaning is not None and fields[1] not in meaning):
            allowed = f" with {', '.join(meaning)}" if meaning else ""
            raise DataError(
                f"{file}, row {row}: {' '.join(fields)!r} is not an image and a number{allowed}; mend the row"
            )
        if fields[0] in found:
            raise DataError(f"{file}, row {row}: duplicate id {fields[0]!r}; keep one of the rows")
        if fields[0] not in files:
            raise DataError(
                f"{file}, row {row}: unknown id {fields[0]!r}, not in the attribute list; align the two files"
            )
        found[fields[0]] = meaning[fields[1]] if meaning else fields[1]
    for name, row in files.items():
        if name not in found:
            raise DataError(f"{file}: no row for {name} (row {row} of the attribute list); align the two files")
        yield found[name]


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with file.open(encoding="utf-8-sig") as stream:
            for row, line in enumerate(stream, 1):
                fields = (line.replace(",", " ") if file.suffix == ".csv" else line).split()
                if fields:
                    yield row, fields
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error}); restore the file") from None


def _places(root: Path, name: str) -> list[Path]:
    return [root / folder / f"{name}{end}" for folder in ("", "Anno", "Eval") for end in (".txt", ".csv")]


def _find(root: Path, name: str) -> Path:
    for path in _places(root, name):
        if path.is_file():
            return path
    raise DataError(
        f"{root}: missing file {name}.txt (also looked in Anno, Eval, and for .csv); is this CelebA's root?"
    )


def _images(root: Path) -> Path:
    name = "img_align_celeba"
    for path in (root / name / name, root / name, root / "Img" / name):
        if path.is_dir():
            return path
    raise DataError(f"{root}: missing folder {name} (also looked in Img); unpack {name}.zip there")
