"""Procedural faces with a known bias, written in CelebA's or UTK-Face's own on-disk layout.

Nobody is depicted. "Male", "Young" and the skin tones are drawing instructions (hair, jaw, wrinkles, colour), under
the names that the real data sets use, so that the same commands read the real thing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from secure_fair.data import portrait
from secure_fair.data.folders import Progress, no_progress, whole_folder
from secure_fair.errors import DataError

# Share of "yes" among faces where nothing else is asked for. SkinTone is uniform over portrait.SKIN_TONES.
BASE_RATES = {
    "Smiling": 0.5,
    "Male": 0.5,
    "Young": 0.5,
    "Wavy_Hair": 0.4,
    "Eyeglasses": 0.2,
    "Bald": 0.025,
    "Bangs": 0.3,
    "Bushy_Eyebrows": 0.3,
    "Mouth_Slightly_Open": 0.35,
}
SKIN = "SkinTone"
SKIN_COLUMNS = ("Pale_Skin", "Medium_Skin", "Dark_Skin")
SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.1, 0.2)
_PHOTO_LEVEL = ("Smiling", "Eyeglasses", "Mouth_Slightly_Open")  # the rest stays the same for a person
_UTK_NAMED = ("Young", "Male", SKIN)  # what a UTK-Face file name can say
_UTK_RACE = (0, 3, 1)  # its codes for the pale, the medium and the dark tone


@dataclass(frozen=True)
class FaceSettings:
    """What to draw.

    correlation R: P(task = yes | attribute = j of K) = 2 p ((1 - R) + (2 R - 1) j / (K - 1)), p the task's base rate
    (at most 1/2). With p = 1/2 and a binary attribute that is P(task = attribute) = R; R = 1/2 is independence. Counts
    in each split follow it exactly, up to rounding.
    balanced_test: R holds in the training split only; in val and test the task is independent of the attribute.
    overlap: standard deviation of the latent smile about -1 (no) or +1 (yes). Its best threshold errs on a share
    Phi(-1 / overlap) of the faces, and the larger it is, the more a model gains from the attribute.
    rate: the task's share of yes, in place of its own of BASE_RATES.
    shares: of train, val and test, which the celeba layout lists; a rare task needs a large test split.
    """

    count: int = 8000
    seed: int = 0
    layout: Literal["celeba", "utkface"] = "celeba"
    task: str = "Smiling"
    attribute: str = "Male"
    correlation: float = 0.93
    balanced_test: bool = False
    overlap: float = 0.5
    size: tuple[int, int] = (96, 96)
    images_per_person: int = 1
    workers: int = 1
    shares: tuple[float, float, float] = SHARES
    rate: float | None = None

    def __post_init__(self) -> None:
        """Raise DataError naming the option that is wrong."""
        tasks = _UTK_NAMED[:2] if self.layout == "utkface" else tuple(BASE_RATES)
        attributes = _UTK_NAMED if self.layout == "utkface" else (*BASE_RATES, SKIN)
        if self.task not in tasks:
            raise DataError(f"task {self.task!r}: the {self.layout} layout has {', '.join(tasks)}")
        if self.attribute not in attributes or self.attribute == self.task:
            others = [name for name in attributes if name != self.task]
            raise DataError(f"attribute {self.attribute!r}: choose another than the task, one of {', '.join(others)}")
        if not 0 <= self.correlation <= 1:
            raise DataError(f"correlation {self.correlation}: must be from 0 to 1 (0.5: none)")
        if self.rate is not None and not 0 < self.rate <= 0.5:
            raise DataError(f"rate {self.rate}: must be above 0 and at most 0.5")
        if self.layout == "utkface" and self.balanced_test:
            raise DataError("balanced test: UTK-Face's layout has no list of splits; use the celeba layout")
        if min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise DataError(f"shares {self.shares}: write three fractions above 0 that add up to 1")
        if self.count < 10 or self.images_per_person < 1 or self.overlap < 0 or min(self.size) < 32:
            raise DataError("needs count >= 10, images per person >= 1, overlap >= 0 and a size of at least 32 pixels")


@dataclass(frozen=True)
class Face:
    """One image to draw; `values` holds 0/1 for each of BASE_RATES, and the index of the skin tone."""

    split: str
    person: int
    values: dict[str, int]
    traits: portrait.Traits


def draw(out: Path, settings: FaceSettings, progress: Progress = no_progress) -> dict[str, dict[str, int]]:
    """Draw the faces into the new folder `out`; return how many by split and by "attribute=value, task=value".

    Raises DataError when `out` exists or cannot be written. About 5 ms a face at 96 pixels, on one core.
    """
    faces = list(population(settings))
    names = _utk_names(faces) if settings.layout == "utkface" else [f"{i + 1:06d}.jpg" for i in range(len(faces))]
    with whole_folder(out) as folder:
        images = folder
        if settings.layout == "celeba":
            images = folder / "img_align_celeba"
            images.mkdir()
            _write_lists(folder, names, faces)
        jobs = [(index, face, str(images / name)) for index, (face, name) in enumerate(zip(faces, names, strict=True))]
        for done, _ in enumerate(_render_all(jobs, settings), 1):
            progress(done, len(jobs))
    counts: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    groups = SKIN_COLUMNS if settings.attribute == SKIN else ("no", "yes")
    for face in faces:
        group, label = groups[face.values[settings.attribute]], ("no", "yes")[face.values[settings.task]]
        key = f"{settings.attribute}={group}, {settings.task}={label}"
        counts[face.split][key] = counts[face.split].get(key, 0) + 1
    return {split: dict(sorted(cells.items())) for split, cells in counts.items()}


def population(settings: FaceSettings) -> Iterator[Face]:
    """Decide every face, split by split; a person's faces are all in one split."""
    rng = np.random.default_rng([settings.seed, 0])
    n_val, n_test = (round(share * settings.count) for share in settings.shares[1:])
    person = 0
    for split, n in zip(SPLITS, (settings.count - n_val - n_test, n_val, n_test), strict=True):
        correlation = 0.5 if settings.balanced_test and split != "train" else settings.correlation
        attribute, task = _cells(n, settings, correlation)
        personal = [
            codes
            for name, codes in ((settings.attribute, attribute), (settings.task, task))
            if name not in _PHOTO_LEVEL
        ]
        persons = person + _group(np.stack([*personal, np.zeros(n, np.int64)]), settings.images_per_person, rng)
        person = int(persons.max()) + 1
        for i in rng.permutation(n):
            chosen = {settings.attribute: int(attribute[i]), settings.task: int(task[i])}
            yield _decide(split, int(persons[i]), chosen, settings, rng)


def _cells(n: int, settings: FaceSettings, correlation: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Attribute and task codes [n] with exact quotas by largest remainder."""
    rates = (
        [1 / 3] * 3
        if settings.attribute == SKIN
        else [1 - BASE_RATES[settings.attribute], BASE_RATES[settings.attribute]]
    )
    rate = BASE_RATES[settings.task] if settings.rate is None else settings.rate
    attribute = np.repeat(np.arange(len(rates)), _quota(n, rates))
    task = np.zeros(n, np.int64)
    for value in range(len(rates)):
        weight = (1 - correlation) + (2 * correlation - 1) * value / (len(rates) - 1)
        members = np.flatnonzero(attribute == value)
        task[members[: round(2 * rate * weight * len(members))]] = 1
    return attribute, task


def _quota(n: int, rates: Sequence[float]) -> NDArray[np.int64]:
    exact = n * np.array(rates)
    counts = np.floor(exact + 1e-9).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: n - counts.sum()]] += 1
    return counts


def _group(keys: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Give each column of `keys` a person number such that a person has one key and at most `size` columns."""
    n = keys.shape[1]
    shuffled = rng.permutation(n)
    order = shuffled[np.lexsort(keys[:, shuffled])]
    changes = np.any(np.diff(keys[:, order], axis=1) != 0, axis=0)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    within = np.arange(n) - np.repeat(starts, np.diff([*starts, n]))
    persons = np.empty(n, np.int64)
    numbers = np.cumsum(within % size == 0) - 1
    persons[order] = rng.permutation(numbers[-1] + 1)[numbers]  # a number must not tell the key
    return persons


def _decide(
    split: str, person: int, chosen: dict[str, int], settings: FaceSettings, photo: np.random.Generator
) -> Face:
    own = np.random.default_rng([settings.seed, 1, person])  # the same draws for every photograph of the person
    values = {name: int((photo if name in _PHOTO_LEVEL else own).random() < rate) for name, rate in BASE_RATES.items()}
    values[SKIN] = int(own.integers(3))
    values.update(chosen)
    male, young = bool(values["Male"]), bool(values["Young"])
    age = int(own.integers(18, 40)) if young else int(own.integers(46, 81))
    hair_rates = [0.4, 0.35, 0.25, 0.0] if young else [0.2, 0.2, 0.1, 0.5]
    traits = portrait.Traits(
        smile=(2 * values["Smiling"] - 1) + settings.overlap * photo.standard_normal(),
        male=male,
        age=age,
        skin=values[SKIN],
        hair=int(own.choice(len(portrait.HAIR_COLOURS), p=hair_rates)),
        bald=bool(values["Bald"]),
        wavy=bool(values["Wavy_Hair"]),
        bangs=bool(values["Bangs"]),
        beard=male and own.random() < 0.35,
        bushy=bool(values["Bushy_Eyebrows"]),
        glasses=bool(values["Eyeglasses"]),
        open_mouth=bool(values["Mouth_Slightly_Open"]),
        lipstick=photo.random() < (0.02 if male else 0.45),
    )
    return Face(split, person, values, traits)


def _render(job: tuple[int, Face, str], seed: int, size: tuple[int, int]) -> None:
    index, face, path = job
    photo = np.random.default_rng([seed, 2, index])
    image = portrait.draw(face.traits, np.random.default_rng([seed, 3, face.person]), photo, size)
    image.save(path, quality=int(photo.integers(82, 95)))


def _render_all(jobs: Sequence[tuple[int, Face, str]], settings: FaceSettings) -> Iterator[None]:
    render = partial(_render, seed=settings.seed, size=settings.size)
    if settings.workers <= 1 or len(jobs) < 500:  # a worker takes about half a second to start
        yield from map(render, jobs)
        return
    # Spawned, not forked: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(settings.workers, mp_context=context, initializer=start_worker) as pool:
        try:
            yield from pool.map(render, jobs, chunksize=32)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _columns(face: Face) -> dict[str, int]:
    columns = {name: face.values[name] for name in BASE_RATES}
    columns |= {name: int(face.traits.skin == tone) for tone, name in enumerate(SKIN_COLUMNS)}
    hair = dict(zip(("Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair"), range(4), strict=True))
    columns |= {name: int(face.traits.hair == code and not face.traits.bald) for name, code in hair.items()}
    columns |= {"No_Beard": int(not face.traits.beard), "Wearing_Lipstick": int(face.traits.lipstick)}
    return dict(sorted(columns.items()))


def _write_lists(folder: Path, names: Sequence[str], faces: Sequence[Face]) -> None:
    """CelebA's list files: number of images, names of columns, then +1 or -1 in columns of two."""
    rows = [_columns(face) for face in faces]
    lines = [str(len(rows)), " ".join(rows[0])]
    lines += [
        f"{name} " + " ".join(f"{2 * v - 1:2d}" for v in row.values()) for name, row in zip(names, rows, strict=True)
    ]
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    both = list(zip(names, faces, strict=True))
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {SPLITS.index(f.split)}\n" for n, f in both))
    (folder / "identity_CelebA.txt").write_text("".join(f"{n} {f.person + 1}\n" for n, f in both))


def _utk_names(faces: Sequence[Face]) -> list[str]:
    """[age]_[gender]_[race]_[date and time].jpg.chip.jpg, with 0 for male as the data set has it."""
    start = datetime(2017, 1, 1, tzinfo=UTC)
    return [
        f"{face.traits.age:.0f}_{1 - face.values['Male']}_{_UTK_RACE[face.traits.skin]}_"
        f"{start + timedelta(seconds=i):%Y%m%d%H%M%S}000.jpg.chip.jpg"
        for i, face in enumerate(faces)
    ]
