"""The developer's table: of each record its id, label, and prediction or score."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from secure_fair.audit.columns import BLOCK, Ids, Table, codes, numbers, sorted_ids
from secure_fair.audit.layout import BINARY, MAX_CLASSES, Codes, Layout
from secure_fair.errors import DataError, SettingsError
from secure_fair.sections import AuditSettings

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

ID, LABEL, PREDICTION, SCORE, SPLIT = "id", "label", "prediction", "score", "split"


@dataclass(frozen=True, repr=False)
class Predictions:
    """N records in ascending order of their ids. Its repr shows no value.

    labels [N]: index into classes; other [N]: the predicted class, or the bin of the score; of a regression both are
    numbers in fixed point, and there are no classes.
    """

    ids: Ids
    classes: tuple[str, ...]
    layout: Layout
    labels: Codes
    other: Codes

    def __repr__(self) -> str:
        return f"Predictions({len(self.ids)} records, classes {', '.join(self.classes)}, values hidden)"

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self, size: int) -> Iterator[torch.Tensor]:
        """What the protocol multiplies, int32 [n, J] in blocks: the layout's rows without the first column."""
        import torch

        for block in self._rows(size):
            yield torch.from_numpy(np.ascontiguousarray(block[:, 1:]))

    @cached_property
    def totals(self) -> NDArray[np.int64]:
        """Of each column [P] over all records: what the developer knows without an audit."""
        totals: NDArray[np.int64] = np.sum([rows.sum(axis=0, dtype=np.int64) for rows in self._rows(BLOCK)], axis=0)
        return totals

    def _rows(self, size: int) -> Iterator[NDArray[np.int32]]:
        for start in range(0, len(self.ids), size):
            yield self.layout.rows(self.labels[start : start + size], self.other[start : start + size])

    def digest(self, salt: bytes) -> str:
        """A commitment to the table; without the salt it says nothing about it."""
        digest = hashlib.sha256(salt + self.ids.digest().encode())
        for part in (self.labels, self.other):
            digest.update(part.data)
        return digest.hexdigest()


def read_predictions(settings: AuditSettings) -> Predictions:
    """Read `audit.predictions`. Raises DataError naming file, row, value and mend.

    Columns: id, label, and prediction or score; with `threshold` or `bins` the score is taken. A score is of the second
    class, and a record at the threshold is predicted to be of it. With `split`, other rows are left out.
    """
    if settings.predictions is None:
        raise DataError("audit.predictions is missing; it names the table with id, label, and prediction or score")
    table = Table(settings.predictions)
    if settings.range is not None:
        if settings.threshold is not None or settings.bins or settings.classes or settings.split:
            raise SettingsError("audit.range is for a regression, which has no threshold, bins, classes and split")
        from secure_fair.audit.regression import read_regression  # it makes what this module defines

        return read_regression(table, *settings.range)
    scored = settings.threshold is not None or settings.bins > 0
    if not scored and PREDICTION not in table.header and SCORE in table.header:
        raise table.refuse(-1, "a score and no prediction", "say from which score on it is positive: --threshold 0.5")
    value = SCORE if scored else PREDICTION
    columns = [ID, LABEL, value, *([SPLIT] if settings.split else [])]
    names = _Names(table, settings.classes)
    threshold = 0.5 if settings.threshold is None else settings.threshold
    ids: list[pa.Array] = []
    labels: list[NDArray[np.uint8]] = []
    others: list[NDArray[np.uint8]] = []
    for start, block in table.blocks(columns):
        label = names.codes(start, block[1], LABEL)
        if scored:
            other = _binned(numbers(table, start, block[2], "score"), threshold, settings.bins, table, start)
        else:
            other = names.codes(start, block[2], PREDICTION)
        kept = np.ones(len(label), dtype=bool)
        if settings.split:
            import pyarrow.compute as pc

            kept = pc.equal(block[3], settings.split).to_numpy(zero_copy_only=False)
        ids.append(block[0].filter(kept))
        labels.append(label[kept])
        others.append(other[kept])
    if not sum(map(len, labels)):
        raise table.refuse(-1, f"no record of the split {settings.split!r}", "name another with --split")
    classes, rank = names.final()
    if scored and len(classes) > BINARY:
        raise table.refuse(-1, f"a score with {len(classes)} classes", "a score is for two classes; give predictions")
    layout = Layout(len(classes), settings.bins)
    order_ids, order = sorted_ids(table, ids)
    other = np.concatenate(others)[order]
    return Predictions(
        order_ids, classes, layout, rank[np.concatenate(labels)[order]], other if scored else rank[other]
    )


class _Names:
    """The classes: those that the settings name, or those that the table shows, in ascending order."""

    def __init__(self, table: Table, fixed: tuple[str, ...]) -> None:
        self._table = table
        self._fixed = fixed
        self._seen: list[str] = list(fixed)

    def codes(self, start: int, column: pa.Array, what: str) -> NDArray[np.uint8]:
        """Indices in the order of appearance."""
        if not self._fixed:
            self._seen += [name for name in column.unique().to_pylist() if name and name not in self._seen]
            if len(self._seen) > MAX_CLASSES:
                raise self._table.refuse(
                    -1,
                    f"more than {MAX_CLASSES} different labels and predictions",
                    "give classes, a score with --threshold, or of a regression the --range",
                )
        return codes(self._table, start, column, self._seen, what)

    def final(self) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
        """The classes, and the place of each in order of appearance."""
        if self._fixed:
            return self._fixed, np.arange(len(self._fixed), dtype=np.uint8)
        if len(self._seen) == 1 and self._seen[0] in ("0", "1"):
            self._seen.append("1" if self._seen[0] == "0" else "0")
        if len(self._seen) < BINARY:
            raise self._table.refuse(-1, "one class only", "name all classes: --classes no,yes")
        order = sorted(range(len(self._seen)), key=lambda i: _natural(self._seen[i]))
        rank = np.empty(len(order), dtype=np.uint8)
        rank[order] = np.arange(len(order), dtype=np.uint8)
        return tuple(self._seen[i] for i in order), rank


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers by value, before words."""
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, name


def _binned(scores: NDArray[np.float64], threshold: float, bins: int, table: Table, start: int) -> NDArray[np.uint8]:
    """The predicted class, or with bins the bin: half of them equal parts of [0, threshold), half of the rest to 1."""
    if not bins:
        return (scores >= threshold).astype(np.uint8)
    outside = np.flatnonzero((scores < 0) | (scores > 1))
    if outside.size:
        row = int(outside[0])
        raise table.refuse(start + row, f"score {scores[row]:g} is outside [0, 1]", "bins are for probabilities")
    return np.searchsorted(edges(threshold, bins)[1:-1], scores, side="right").astype(np.uint8)


def edges(threshold: float, bins: int) -> NDArray[np.float64]:
    """Of the bins, [bins + 1], from 0 to 1; the threshold is the middle one."""
    half = bins // 2 + 1
    return np.concatenate([np.linspace(0, threshold, half), np.linspace(threshold, 1, half)[1:]])
