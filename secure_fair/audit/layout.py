"""Which counts an audit takes of each group, and how a record becomes a row of them.

| task | columns of a group's counts |
|---|---|
| two classes | the four cells (label, prediction): 00, 01, 10, 11 |
| two classes, B bins of the score | the 2 B cells (label, bin); the threshold is an edge, so the four cells are sums |
| C > 2 classes | for each class: hits (label and prediction), misses (label only), alarms (prediction only) |
| regression | size, sums of label, prediction, absolute and squared error, in fixed point |

A record is in one cell of the first two, and in one or two of the third: that bounds what a person moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from secure_fair.errors import RefusedError

Counts = NDArray[np.float64]
Codes = NDArray[np.uint8] | NDArray[np.uint32]
BINARY = 2
MAX_CLASSES = 100
MAX_BINS = 50
MIN_BITS, MAX_BITS = 4, 16  # of a regression's fixed point
REGRESSION = ("size", "label", "prediction", "absolute_error", "squared_error")


@dataclass(frozen=True)
class Layout:
    """Public facts of what is counted. classes: C, or 0 for a regression; bins: of the score, even, 0 for none;
    bits: of a regression's fixed point."""

    classes: int
    bins: int = 0
    bits: int = 0

    def __post_init__(self) -> None:
        regression = self.classes == 0 and self.bins == 0 and MIN_BITS <= self.bits <= MAX_BITS
        known = BINARY <= self.classes <= MAX_CLASSES and 0 <= self.bins <= MAX_BINS and self.bits == 0
        if not regression and not (known and self.bins % 2 == 0 and (self.bins == 0 or self.classes == BINARY)):
            raise RefusedError(
                f"an audit of {self.classes} classes with {self.bins} bins: from {BINARY} to {MAX_CLASSES} classes, "
                f"and an even number of bins up to {MAX_BINS}, for two classes only"
            )

    @property
    def regression(self) -> bool:
        return self.classes == 0

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the P columns of a group's counts."""
        if self.regression:
            return REGRESSION
        if self.bins:
            return tuple(f"label {y}, bin {b}" for y in range(2) for b in range(self.bins))
        if self.classes == BINARY:
            return tuple(f"label {y}, prediction {p}" for y in range(2) for p in range(2))
        return tuple(f"{kind} {c}" for kind in ("hit", "miss", "alarm") for c in range(self.classes))

    @cached_property
    def combine(self) -> tuple[tuple[int, ...], ...]:
        """[P][1 + J]: each column from a group's size and the J columns that are multiplied.

        The first cell is what the others leave of the size, so it is neither sent nor multiplied.
        """
        width = len(self.names)
        if self.regression:
            scaled = np.diag([1 << self.bits, *[1] * (width - 1)])  # as coarse as the sums, so that all share one noise
            return tuple(tuple(row) for row in scaled.tolist())
        # The size is the sum of all cells; of three or more classes, of hits and misses.
        parts = width if self.classes == BINARY else 2 * self.classes
        rest = [1, *[-1] * (parts - 1), *[0] * (width - parts)]
        return (tuple(rest), *(tuple(int(i == j) for j in range(width)) for i in range(1, width)))

    @property
    def sensitivity_squared(self) -> int:
        """How far, squared and in L2, one record that changes its group moves one attribute's counts."""
        if self.regression:
            return 2 * len(REGRESSION) << 2 * self.bits
        return 2 if self.classes == BINARY else 4

    @property
    def largest(self) -> int:
        """The most that one record adds to a column."""
        return 1 << self.bits

    def rows(self, labels: Codes, other: Codes) -> NDArray[np.int32]:
        """Rows [n, P] of a block, one-hot but for a regression. other: the predicted class, or with bins the bin."""
        n = len(labels)
        if self.regression:
            label, prediction = labels.astype(np.int64), other.astype(np.int64)
            error = np.abs(label - prediction)
            squared = (error * error + (self.largest >> 1)) >> self.bits
            size = np.full(n, self.largest)
            return np.stack([size, label, prediction, error, squared], axis=1).astype(np.int32)
        out = np.zeros((n, len(self.names)), dtype=np.int32)
        every = np.arange(n)
        if self.classes == BINARY:
            out[every, labels.astype(np.intp) * (self.bins or 2) + other] = 1
            return out
        hit = labels == other
        out[every[hit], labels[hit]] = 1
        out[every[~hit], self.classes + labels[~hit].astype(np.intp)] = 1
        out[every[~hit], 2 * self.classes + other[~hit].astype(np.intp)] = 1
        return out

    def confusion_matrix(self, positive: int = 1) -> NDArray[np.float64]:
        """[P, 4]: which cells make up tp, fp, fn and tn of a class."""
        width, c = len(self.names), self.classes
        out = np.zeros((width, 4))
        if c == BINARY:
            per = self.bins or 2
            for cell in range(width):
                label, predicted = cell // per, int(cell % per >= per // 2)
                hit = label == positive, predicted == positive
                out[cell, {(True, True): 0, (False, True): 1, (True, False): 2, (False, False): 3}[hit]] = 1
            return out
        # tn is what is left of the size (hits and misses) after tp, fp and fn.
        out[: 2 * c, 3] = 1
        for column, cell in enumerate((positive, 2 * c + positive, c + positive)):
            out[cell, column] += 1
            out[cell, 3] -= 1
        return out

    def people(self, counts: Counts) -> Counts:
        """How many records each of the counts [..., P] is about: what a smallest count is compared with."""
        if not self.regression:
            return counts
        return np.repeat(counts[..., :1] / self.largest, len(REGRESSION), axis=-1)

    def size(self, counts: Counts) -> Counts:
        """Records of a group, from its counts [..., P]."""
        parts = len(self.names) if self.classes == BINARY else 2 * self.classes
        sizes: Counts = counts[..., :parts].sum(axis=-1)
        return sizes

    def accuracy_matrix(self) -> NDArray[np.float64]:
        """[P, 4]: of three or more classes, every hit as tp and every miss as fn, for the rates that need no class."""
        out = np.zeros((len(self.names), 4))
        out[: self.classes, 0] = out[self.classes : 2 * self.classes, 2] = 1
        return out
