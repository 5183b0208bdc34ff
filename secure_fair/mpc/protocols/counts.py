"""Counts X = T^T L over many records, exact in Z_2^32, streamed in blocks.

L [n, J] small integers of the developer (a cell of the confusion matrix, one-hot, but for one cell); T [n, G] one-hot
rows of the auditor, but for one group of each attribute. What is left out costs nothing to put back: the auditor knows
the sizes of its groups and the developer its totals over all groups, and a sharing takes in what one party knows.

A block:    1. dev -> aud: L^        aud -> dev: T^        now [X] += one-sided(L, T)
At the end: 2. aud -> dev: its share of the completed counts, noised or in part (what the caller decides)

Neither side waits within a block. Bytes: 4 N (J + G), and 4 for each count opened: 24 a record for a binary task and
four groups. 32 bits are enough for sums below 2^31, which the caller checks; shares and masks wrap by design.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from secure_fair.mpc.dealing.correlations import transposed_product
from secure_fair.mpc.dealing.plan import Count, Plan, StepProgram
from secure_fair.mpc.dealing.source import StepRandomness
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import WORD_BYTES
from secure_fair.mpc.kinds import Kind

BLOCK = 1 << 16
LIMIT = 1 << 31  # sums stay below
_AHEAD = 2  # blocks under way


@dataclass(frozen=True)
class CountShape:
    """Public facts of a count.

    records: N; groups: K of each attribute; combine: [P][1 + J], how each of the P completed columns of a group
    follows from its size and its J products (integers).
    """

    records: int
    groups: tuple[int, ...]
    combine: tuple[tuple[int, ...], ...]
    block: int = BLOCK

    @property
    def columns(self) -> int:
        """J: columns of L."""
        return len(self.combine[0]) - 1

    @property
    def kept(self) -> int:
        """G: columns of T, all groups but the first of each attribute."""
        return sum(k - 1 for k in self.groups)

    @property
    def opened(self) -> tuple[int, int]:
        """Shape of the completed counts: [sum of K, P]."""
        return sum(self.groups), len(self.combine)

    @property
    def floor_bytes(self) -> int:
        """Least bytes of a whole count: one masked copy of L and T, and the result."""
        rows, width = self.opened
        return WORD_BYTES * (self.records * (self.columns + self.kept) + rows * width)

    def sizes(self) -> Iterator[int]:
        """Rows of each block."""
        for start in range(0, self.records, self.block):
            yield min(self.block, self.records - start)

    def program(self, n: int) -> StepProgram:
        """What the dealer deals for a block of n rows."""
        return StepProgram(f"counts n={n}", counts={"cells": Count(n, self.columns, self.kept)})

    def plan(self) -> Plan:
        """All blocks."""
        full, rest = divmod(self.records, self.block)
        runs = [(self.program(self.block), full)] if full else []
        return Plan((*runs, *([(self.program(rest), 1)] if rest else [])))

    def complete(self, share: torch.Tensor, first: torch.Tensor, totals: torch.Tensor) -> torch.Tensor:
        """A share [J, G] of the products -> a share [sum of K, P] of all counts, int32.

        first [G]: sizes of the groups, totals [P]: sums over all groups; each zero at the party that does not know it.
        """
        products = torch.cat([first[None], share]).to(torch.int64)  # [1 + J, G]
        cells = (torch.tensor(self.combine) @ products).T  # [G, P]
        rows = []
        for part in cells.split([k - 1 for k in self.groups]):
            rows += [(totals - part.sum(dim=0))[None], part]
        return torch.cat(rows).to(torch.int32)  # modulo 2^32


def developer_counts(party: Party, shape: CountShape, blocks: Iterable[torch.Tensor]) -> torch.Tensor:
    """blocks: L int32 [n, J], in the agreed order. Returns our share of X, int32 [J, G]."""
    total = torch.zeros(shape.columns, shape.kept, dtype=torch.int32)
    waiting: deque[StepRandomness] = deque()
    source = iter(blocks)

    def finish(step: StepRandomness) -> torch.Tensor:
        mask = step.mask("cells").values
        (hidden,) = party.receive(Kind.MASKED, (len(mask), shape.kept), dtype=torch.int32)
        return step.count("cells") + transposed_product(mask, hidden)

    for n in shape.sizes():
        step = party.source.next(shape.program(n).name)
        party.send(Kind.MASKED, step.mask("cells").hide(next(source)))
        waiting.append(step)
        if len(waiting) > _AHEAD:
            total += finish(waiting.popleft())
    for step in waiting:
        total += finish(step)
    return total


def auditor_counts(party: Party, shape: CountShape, blocks: Iterable[torch.Tensor]) -> torch.Tensor:
    """blocks: T int32 [n, G], in the agreed order. Returns our share of X, int32 [J, G]."""
    total = torch.zeros(shape.columns, shape.kept, dtype=torch.int32)
    waiting: deque[tuple[StepRandomness, torch.Tensor]] = deque()
    source = iter(blocks)

    def finish(step: StepRandomness, groups: torch.Tensor) -> torch.Tensor:
        (hidden,) = party.receive(Kind.MASKED, (len(groups), shape.columns), dtype=torch.int32)
        return step.count("cells") + transposed_product(hidden, groups)

    for n in shape.sizes():
        step, groups = party.source.next(shape.program(n).name), next(source)
        party.send(Kind.MASKED, step.mask("cells").hide(groups))
        waiting.append((step, groups))
        if len(waiting) > _AHEAD:
            total += finish(*waiting.popleft())
    for step, groups in waiting:
        total += finish(step, groups)
    return total
