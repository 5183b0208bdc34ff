"""The developer's images: decoding, a cache, and batches in an order that no label decides."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from secure_fair.data.jpeg import BROKEN
from secure_fair.data.labels import LabelTable, read_labels
from secure_fair.errors import DataError

__all__ = ["Batch", "ImageSet", "LabelTable", "TransformSpec", "batches", "read_labels"]

CACHE_BYTES = 2 << 30
Positions = NDArray[np.int64]

_PREFETCH = 4  # batches in flight when there are workers


@dataclass(frozen=True)
class TransformSpec:
    """Shorter side to `size` pixels, centre crop to a square, then (x - mean) / std per channel on [0, 1]."""

    size: int
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    interpolation: str = "BICUBIC"

    @classmethod
    def of(cls, config: Mapping[str, Any], size: int) -> TransformSpec:
        """From timm's data configuration of a backbone; its crop_pct is left out, since faces are cropped already."""
        name = str(config["interpolation"]).upper()
        known = name if name in Image.Resampling.__members__ else "BICUBIC"  # timm also knows "random"
        return cls(size, tuple(config["mean"]), tuple(config["std"]), known)

    def pixels(self, path: Path) -> Tensor:
        """Decode one image: uint8 [3, size, size]. Raises DataError naming the file."""
        try:
            with Image.open(path) as image:
                return self._fit(image.convert("RGB"))
        except FileNotFoundError:
            raise DataError(f"{path}: missing file; restore it or remove its row from labels.csv") from None
        except BROKEN as error:
            raise DataError(f"{path}: broken image ({error}); replace it or remove its row from labels.csv") from None

    def _fit(self, image: Image.Image) -> Tensor:
        left, top, side = (image.width - min(image.size)) / 2, (image.height - min(image.size)) / 2, min(image.size)
        if image.size != (self.size, self.size):
            method = Image.Resampling[self.interpolation.upper()]
            image = image.resize((self.size, self.size), method, box=(left, top, left + side, top + side))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [..., 3, size, size] -> float32 of the same shape."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1) * 255
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1) * 255
        return pixels.to(torch.float32, copy=True).sub_(mean).div_(std)


class ImageSet(Dataset[tuple[Tensor, int, int]]):
    """One split. Position = index into `ids`, which are sorted: both parties derive the same order from the ids.

    Decoded pixels stay in memory when the whole split fits into `cache_bytes`; otherwise every access decodes. Raises
    DataError when the split is empty.
    """

    def __init__(self, table: LabelTable, split: str, transform: TransformSpec, cache_bytes: int = CACHE_BYTES) -> None:
        rows = sorted(np.flatnonzero(table.splits == split).tolist(), key=lambda row: table.ids[row])
        if not rows:
            raise DataError(f"{table.task}: no record is in the split {split!r}; prepare the data again")
        self.split = split
        self.ids = tuple(table.ids[row] for row in rows)
        self.paths = tuple(table.paths[row] for row in rows)
        self.labels = torch.from_numpy(table.labels[rows])
        self.classes = table.classes
        self.transform = transform
        self._cache_bytes = cache_bytes
        self._empty_cache()

    def only(self, ids: Collection[str]) -> ImageSet:
        """The records with these ids, in the same order; of what was decoded, nothing."""
        wanted = set(ids)
        rows = [row for row, record in enumerate(self.ids) if record in wanted]
        part = copy.copy(self)
        part.ids = tuple(self.ids[row] for row in rows)
        part.paths = tuple(self.paths[row] for row in rows)
        part.labels = self.labels[rows]
        part._empty_cache()
        return part

    def _empty_cache(self) -> None:
        shape = (len(self), 3, self.transform.size, self.transform.size)
        fits = int(np.prod(shape)) <= self._cache_bytes
        self._cache = torch.empty(shape, dtype=torch.uint8) if fits else None
        self._cached = np.zeros(len(self), dtype=bool)

    def __len__(self) -> int:
        """Give the number of records."""
        return len(self.ids)

    def __getitem__(self, position: int) -> tuple[Tensor, int, int]:
        """Give (image float32 [3, S, S], label, position)."""
        return self.transform.normalise(self.pixels(position)), int(self.labels[position]), position

    def pixels(self, position: int) -> Tensor:
        """Pixels before normalisation, uint8 [3, S, S]. Safe to call from several threads."""
        if self._cache is None:
            return self.transform.pixels(self.paths[position])
        if not self._cached[position]:
            self._cache[position] = self.transform.pixels(self.paths[position])
            self._cached[position] = True
        return self._cache[position]

    def stack(self, positions: Positions) -> Tensor:
        """Pixels of several positions, uint8 [n, 3, S, S]."""
        if self._cache is not None and self._cached[positions].all():
            return self._cache[torch.from_numpy(positions)]
        return torch.stack([self.pixels(int(position)) for position in positions])


@dataclass(frozen=True)
class Batch:
    """images: float32 [n, 3, S, S], or a share of them; labels: int64 [n]; positions: int64 [n]."""

    images: Tensor
    labels: Tensor
    positions: Tensor


def batches(
    image_set: ImageSet,
    batch_size: int,
    *,
    epoch: int | None,
    seed: int,
    workers: int = 0,
    start_step: int = 0,
    share: tuple[int, int] = (0, 1),
    persons: Sequence[str] | None = None,
) -> Iterator[Batch]:
    """Yield the split in batches, the last short one included, from batch number `start_step` on.

    With `epoch` None in position order; else in a permutation that is a function of (seed, epoch, number of records)
    and of nothing else. Never balanced by class: the auditor sees the ids of a batch, and would see labels.
    `workers` threads decode ahead (PIL lets go of the interpreter while it decodes); the result is the same.
    share: which of how many equal parts of each batch to give the images of. persons: of each position; of a person's
    records only the first in the order, so that an epoch has everybody once.
    """
    n = len(image_set)
    order = np.arange(n) if epoch is None else np.random.default_rng([seed, epoch]).permutation(n)
    if persons is not None:
        order = order[np.sort(np.unique(np.asarray(persons)[order], return_index=True)[1])]
    steps = [order[i : i + batch_size] for i in range(start_step * batch_size, len(order), batch_size)]
    if workers == 0:
        for positions in steps:
            yield _batch(image_set, positions, image_set.stack(_part(positions, *share)))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="images") as pool:
        waiting: deque[list[Future[Tensor]]] = deque()
        try:
            for number, positions in enumerate(steps):
                for ahead in steps[number + len(waiting) : number + _PREFETCH]:
                    waiting.append([pool.submit(image_set.pixels, int(p)) for p in _part(ahead, *share)])
                yield _batch(image_set, positions, torch.stack([future.result() for future in waiting.popleft()]))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _part(positions: Positions, part: int, parts: int) -> Positions:
    """The parts one after the other are the whole; behind its end the last position is repeated."""
    rows = -(-len(positions) // parts)
    return np.take(positions, np.arange(part * rows, (part + 1) * rows), mode="clip")


def _batch(image_set: ImageSet, positions: Positions, pixels: Tensor) -> Batch:
    at = torch.from_numpy(positions)
    return Batch(image_set.transform.normalise(pixels), image_set.labels[at], at)
