"""Groups of records from many small observations: "these are alike", "these are not", "these look alike"."""

from __future__ import annotations

import heapq
from collections import defaultdict

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Links:
    """Nodes are sets of records that certainly share a group; they are joined, kept apart, or compared.

    `same` is certain and transitive (union-find); `apart` is certain; `alike` is evidence and adds up.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._apart: list[tuple[int, int]] = []
        self._alike: list[tuple[int, int, float]] = []

    def node(self) -> int:
        """A new node."""
        self._parent.append(len(self._parent))
        return len(self._parent) - 1

    def same(self, a: int, b: int) -> None:
        """The two nodes are of one group."""
        self._parent[self._root(a)] = self._root(b)

    def apart(self, a: int, b: int) -> None:
        """The two nodes are of different groups."""
        self._apart.append((a, b))

    def alike(self, a: int, b: int, score: float) -> None:
        """Evidence that the two nodes are of one group (negative: of two)."""
        self._alike.append((a, b, score))

    def groups(self, count: int, sizes: Integers) -> Integers:
        """The group, 0..count-1, of each node, -1 for one that nothing ties to the `count` largest groups.

        Certain links first; then the pair with the most evidence is joined, unless it is known to be apart, and so on.
        sizes: records of each node.
        """
        roots = np.array([self._root(node) for node in range(len(self._parent))], dtype=np.int64)
        members, compact = np.unique(roots, return_inverse=True)
        merged = _agglomerate(
            len(members),
            [(int(compact[a]), int(compact[b])) for a, b in self._apart],
            [(int(compact[a]), int(compact[b]), score) for a, b, score in self._alike],
            count,
        )[compact]
        totals = np.bincount(merged, weights=sizes)
        largest = np.argsort(-totals, kind="stable")[:count]
        names = np.full(len(totals), -1, dtype=np.int64)
        names[largest] = np.arange(len(largest))
        return names[merged]

    def _root(self, node: int) -> int:
        while self._parent[node] != node:
            self._parent[node] = self._parent[self._parent[node]]
            node = self._parent[node]
        return node


def _agglomerate(
    count: int, apart: list[tuple[int, int]], alike: list[tuple[int, int, float]], target: int
) -> Integers:
    """Join `count` items greedily by summed evidence until `target` are left or none may be joined: a label of each."""
    scores: list[dict[int, float]] = [defaultdict(float) for _ in range(count)]
    for a, b, score in alike:
        if a != b:
            scores[a][b] += score
            scores[b][a] += score
    enemies: list[set[int]] = [set() for _ in range(count)]
    for a, b in apart:
        enemies[a].add(b)
        enemies[b].add(a)
    labels = np.arange(count)
    members = [[item] for item in range(count)]
    queue = [(-score, a, b) for a, row in enumerate(scores) for b, score in row.items() if a < b]
    heapq.heapify(queue)
    left = count
    while queue and left > target:
        negative, a, b = heapq.heappop(queue)
        if scores[a].get(b) != -negative or b in enemies[a]:
            continue  # out of date, or forbidden
        if len(scores[a]) < len(scores[b]):
            a, b = b, a
        for other, score in scores[b].items():  # b becomes part of a
            del scores[other][b]
            if other != a:
                scores[a][other] = scores[other][a] = scores[a].get(other, 0.0) + score
                heapq.heappush(queue, (-scores[a][other], min(a, other), max(a, other)))
        scores[b] = {}
        for enemy in enemies[b]:
            enemies[enemy].add(a)
        enemies[a] |= enemies[b]
        members[a] += members[b]
        labels[members[b]] = a
        left -= 1
    return labels
