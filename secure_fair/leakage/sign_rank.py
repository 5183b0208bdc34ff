"""Sign and rank: every attribute from the per-record gradients that the release `gradient` opens.

ORTH. Row i of G = T (T^T H) is the same for all records of one group in a batch (and task class for "odds"), bit for
bit, and differs between groups: each batch is split exactly. A record is in one batch of every epoch, so the splits of
all batches grow together through shared records. What is left, such as one class's groups against another's, the rows'
directions tell: the groups' mean differences change slowly over steps and are much the same in every class. The groups'
names stay open; whoever looks at a few images of each group knows them.

ADV. G = (p - t) w^T, and 0 < p < 1 makes p - t negative exactly where t = 1. The adversary's first weights are public
(a seed), and with p - t the developer can make the adversary's next step itself: w is followed from step to step, G
solved for p - t, and the epochs vote. This names the groups too. With one column the rank-one G splits its batch
exactly, and the votes only have to name the halves.

ENT. G = e w^T with e = z p (1 - p), of the sign of the adversary's logit z: each record's row, in coordinates of G's
row space, says what the adversary believes of it. That is the adversary, not the truth, and the names stay open.

They use the log alone and, for ORTH "odds", the developer's own task labels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from secure_fair.errors import RunError
from secure_fair.leakage.linking import Floats, Integers, Links
from secure_fair.privacy import disclosures

NAME = "sign and rank of per-record gradients"
_WINDOW = 4  # steps back to which a step's directions are compared
_TYPICAL = (0.25, 0.75)  # where p is taken to be when w is fitted: any p in (0, 1) leaves the signs, this fits best


@dataclass(frozen=True)
class Step:
    """One opened gradient [n, d], in steps of `unit`, and the positions [n] of its records in the agreed order."""

    gradient: Integers
    records: Integers
    unit: float


def opened_steps(folder: Path) -> Iterator[Step]:
    """The per-record gradients in the log of RUN/developer. Raises RunError where there are none, or none stored."""
    for line in disclosures.read(folder):
        if line.release != "gradient":
            raise RunError(
                f"{folder}: the release `{line.release}` opens no value of a single record, so there is no sign and no "
                "rank to read; this attack needs the release `gradient`"
            )
        value, records = disclosures.load_value(folder, line)
        yield Step(value.astype(np.int64), records.astype(np.int64), line.unit)


def recover_orthogonality(
    steps: Iterable[Step], labels: npt.NDArray[np.int64] | None, records: int, categories: Sequence[int]
) -> Integers:
    """The combination of attributes, 0..prod(K)-1, of each of `records` records, up to one permutation of the names.

    labels [records]: task classes for "odds", None for "parity"; categories: K of each attribute. -1 where the log does
    not tell.
    """
    groups = int(np.prod(categories))
    classes = np.zeros(records, dtype=np.int64) if labels is None else labels
    splits = [_ClassSplits(records, several=len(categories) > 1) for _ in range(classes.max() + 1)]
    for step in steps:
        of_class = classes[step.records]
        for label in np.unique(of_class):
            rows = of_class == label
            # Without the last column, a group's size: directions are compared.
            splits[label].add(step.gradient[rows, :-1] * step.unit, step.records[rows])
    found = np.full(records, -1, dtype=np.int64)
    reference: Floats | None = None
    for split in sorted((split for split in splits if split.size), key=lambda split: -split.size):
        local, profile = split.groups(groups)  # [records], [epochs, groups, d]
        if reference is None:
            reference = profile
        epochs = min(len(profile), len(reference))
        agreement = np.einsum("ekd,eld->kl", profile[:epochs], reference[:epochs])
        names = linear_sum_assignment(agreement, maximize=True)[1]
        known = local >= 0
        found[known] = names[local[known]]
    return found


class _ClassSplits:
    """What the batches tell about the records of one task class. A node is the records of one row in one batch."""

    def __init__(self, records: int, *, several: bool) -> None:
        self._links = Links()
        self._several = several
        self._node = np.full(records, -1, dtype=np.int64)  # the newest node of each record
        self._seen = np.zeros(records, dtype=np.int64)  # epochs that each record has been in
        self._rows: list[
            Floats
        ] = []  # of each node: its row of G, its records, those whose mean the row sums, its epoch
        self._sizes: list[int] = []
        self._scales: list[int] = []
        self._epochs: list[int] = []
        self._recent: deque[tuple[list[int], Floats]] = deque(maxlen=_WINDOW)

    @property
    def size(self) -> int:
        """Observations of records."""
        return sum(self._sizes)

    def add(self, gradient: Floats, records: Integers) -> None:
        """Rows of G [n, d] of the records [n] of this class in one batch."""
        nodes: dict[bytes, int] = {}
        for row, record in zip(gradient, records, strict=True):
            key = row.tobytes()
            if key not in nodes:
                nodes[key] = self._links.node()
                self._rows.append(row)
                self._sizes.append(0)
                self._epochs.append(int(self._seen[record]))
            node = nodes[key]
            self._sizes[node] += 1
            if self._node[record] >= 0:
                self._links.same(node, int(self._node[record]))
            self._node[record] = node
            self._seen[record] += 1
        own = list(nodes.values())
        # A row sums its group; with several attributes it adds sums over larger groups, which the batch bounds.
        self._scales += [len(records) if self._several else self._sizes[node] for node in own]
        for i, node in enumerate(own):
            for other in own[:i]:
                self._links.apart(node, other)
        vectors = np.array([self._rows[node] / self._scales[node] ** 0.5 for node in own])  # noise of one size
        for others, before in self._recent:
            for node, scores in zip(own, (vectors @ before.T).tolist(), strict=True):
                for other, score in zip(others, scores, strict=True):
                    self._links.alike(node, other, score)
        self._recent.append((own, vectors))

    def groups(self, count: int) -> tuple[Integers, Floats]:
        """The group of each record, -1 where unknown, and the groups' mean rows in each epoch, [epochs, count, d]."""
        of_node = self._links.groups(count, np.array(self._sizes))
        known = of_node >= 0
        at = np.array(self._epochs)[known], of_node[known]
        sums = np.zeros((max(self._epochs) + 1, count, len(self._rows[0])))
        scales = np.zeros(sums.shape[:2])
        np.add.at(sums, at, np.array(self._rows)[known])
        np.add.at(scales, at, np.array(self._scales)[known])
        present = (scales > 0)[:, :, None]
        means = sums / np.maximum(scales, 1)[:, :, None]
        # From the groups' own middle: the class's mean, which G is centred at, leans towards its larger groups.
        means -= means.sum(axis=1, keepdims=True) / np.maximum(present.sum(axis=1, keepdims=True), 1)
        return np.where(self._node >= 0, of_node[self._node], -1), means * present


@dataclass(frozen=True)
class Follow:
    """What the developer needs to make the adversary's steps after it.

    start [d, J]: its public first weights without biases; features [records, d]: x of the records by position, from the
    frozen backbone (its own change over training is slower than w's); rate, decay: of the adversary's SGD.
    """

    start: Floats
    features: Floats
    rate: float
    decay: float


def recover_adversary(steps: Iterable[Step], follow: Follow, categories: Sequence[int]) -> Integers:
    """Category codes [records, A] of attributes with `categories` K each, names included; 0 for a record never seen."""
    columns = _columns(categories)
    votes = np.zeros((len(follow.features), follow.start.shape[1]))
    w = follow.start  # [d, J]
    halves = []
    for step in steps:
        n = len(step.records)
        gradient = step.gradient * (step.unit * n / follow.rate)  # (p - t) w^T, [n, d]
        residual = gradient @ np.linalg.pinv(w).T  # p - t, [n, J]
        targets = _targets(residual, columns)
        votes[step.records] += targets - 0.5
        if w.shape[1] == 1:  # rank one: both halves of the batch are exact, whatever w; which is which is not
            direction = np.linalg.svd(gradient, full_matrices=False)[2][0]
            halves.append((step.records, np.sign(gradient @ direction)[:, None]))
        likely = np.clip(residual + targets, *_TYPICAL) - targets
        if n > 2 * targets.shape[1]:  # a short last batch says too little of w
            w = (np.linalg.pinv(likely) @ gradient).T
        pulled = follow.features[step.records].T @ likely / n
        w = (1 - follow.rate * follow.decay) * w - follow.rate * pulled
    if halves:
        # Most votes are right, so each batch's halves are named by all its records together.
        named = np.zeros_like(votes)
        for records, half in halves:
            named[records] += half * np.sign((half * votes[records]).sum())
        votes = named
    codes = [
        votes[:, own].argmax(axis=1) if k > 2 else (votes[:, own.start] > 0).astype(np.int64)
        for own, k in zip(columns, categories, strict=True)
    ]
    return np.stack(codes, axis=1)


def entropy_coordinates(steps: Iterable[Step], categories: Sequence[int], records: int) -> Floats:
    """Each record's last row in the row space of all last rows, [records, J], in units of its spread; 0 if never seen.

    The adversary has moved little between a record's last row and another's, so one space of J dimensions holds them.
    """
    rows: Floats | None = None
    for step in steps:
        if rows is None:
            rows = np.zeros((records, step.gradient.shape[1]))
        rows[step.records] = step.gradient * (step.unit * len(step.records))
    if rows is None:
        raise RunError("the log holds no entropy gradient; let the run finish")
    dimensions = _columns(categories)[-1].stop
    space = np.linalg.eigh(rows.T @ rows)[1][:, -dimensions:]  # [d, J]
    coordinates: Floats = rows @ space
    coordinates /= np.maximum(coordinates.std(axis=0), 1e-300)
    return coordinates


def _columns(categories: Sequence[int]) -> list[slice]:
    """The adversary's columns of each attribute: one for two categories, else one for each."""
    ends = np.cumsum([1 if k == 2 else k for k in categories]).tolist()
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _targets(residual: Floats, columns: Sequence[slice]) -> Floats:
    """0/1 targets [n, J] from p - t [n, J]: 1 where it is negative, or most so among an attribute's categories."""
    targets = np.zeros_like(residual)
    for own in columns:
        part = residual[:, own]
        if part.shape[1] == 1:
            targets[:, own] = part < 0
        else:
            targets[np.arange(len(part)), own.start + part.argmin(axis=1)] = 1
    return targets
