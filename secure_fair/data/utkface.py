"""UTK-Face (Zhang et al. 2017): attributes in the file names, [age]_[gender]_[race]_[date and time].jpg.chip.jpg.

The distributed archives hold some malformed names: a field missing (39_1_20170116174525125.jpg.chip.jpg), empty
(53__0_20170116184028385.jpg), a space or a broken ending (55_0_0_20170116232725357jpg.chip.jpg). A name is used when
age, gender and race can be read from it without guessing, and reported otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from secure_fair.data.source import Column, Source
from secure_fair.errors import DataError

GENDERS = ("male", "female")  # codes 0, 1 of the file names
RACES = ("White", "Black", "Asian", "Indian", "Others")  # codes 0 to 4
AGE_BINS = (20, 40, 60)
_OLDEST = 120

_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_\d+\D.*", re.ASCII)


def read(root: Path, age_bins: Sequence[int] = AGE_BINS) -> Source:
    """Read the file names under `root` (or `root`/UTKFace); opens no image.

    `age_bins` are the first ages of the second bin, the third and so on: (20, 40) gives 0-19, 20-39 and 40+.
    Raises DataError when there is no usable image or the bins do not rise.
    """
    if list(age_bins) != sorted(set(age_bins)) or not age_bins or not 0 < age_bins[0] <= age_bins[-1] <= _OLDEST:
        raise DataError(f"age bins {', '.join(map(str, age_bins))}: write rising ages from 1 to {_OLDEST}")
    folder = root / "UTKFace" if (root / "UTKFace").is_dir() else root
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".jpg")
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); name UTK-Face's folder of images") from None
    kept: list[tuple[Path, int, int, int]] = []
    skipped: list[str] = []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match and int(match[1]) <= _OLDEST:
            kept.append((path, int(match[1]), int(match[2]), int(match[3])))
        else:
            skipped.append(f"{path}: the name is not [age]_[gender 0-1]_[race 0-4]_[date]; rename the file to use it")
    if not kept:
        wrong = f" ({len(skipped)} images with other names)" if skipped else ""
        raise DataError(f"{folder}: no image named [age]_[gender]_[race]_[date].jpg{wrong}; name UTK-Face's folder")
    table = np.array([row[1:] for row in kept], dtype=np.int64)
    first = (0, *age_bins)
    names = [f"{low}-{high - 1}" for low, high in zip(first, age_bins, strict=False)] + [f"{age_bins[-1]}+"]
    return Source(
        images=tuple(row[0] for row in kept),
        columns={
            "Age": Column(
                np.searchsorted(np.array(age_bins), table[:, 0], side="right").astype(np.int64), tuple(names)
            ),
            "Gender": Column(table[:, 1], GENDERS),
            "Race": Column(table[:, 2], RACES),
        },
        skipped=tuple(skipped),
    )
