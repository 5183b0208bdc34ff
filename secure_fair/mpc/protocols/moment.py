"""The moment M = U^T (y (x) t) over many records, streamed in blocks; shares stay shares until the auditor adds noise.

U [n, D] integer vectors of the developer, Y [n, C] one-hot task labels of the developer (C = 1: none, "parity"),
t [n, J] integer columns of the auditor. Exact in Z_2^64.

A block, "parity":   1. dev -> aud: U^        aud -> dev: t^
A block, "odds":     1. dev -> aud: U^, Y^    aud -> dev: t^    now [Q] = [Y (x) t], and Q_aud is the auditor's own
                     2. aud -> dev: Q_aud^;   [M] += U^T Q_dev (the developer's own) + one-sided(U, Q_aud)
At the end the auditor sends its share of M, noise added: 1 message. Neither side waits within a block: messages of the
next blocks are under way while one is computed, and the last share waits for nothing of the developer's, so the whole
costs one round trip of latency.

Bytes: dev -> aud 8 N (D + C), aud -> dev 8 (N J + N C J + D C J).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from secure_fair.mpc.dealing.plan import OPERATIONS, Mask, Plan, Product, StepProgram
from secure_fair.mpc.dealing.source import StepRandomness
from secure_fair.mpc.engine.opening import open_to_developer
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.sharing import from_share
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.product import auditor_share, developer_share

OPENED = "moment with noise"
BLOCK = 2048  # records: a few MB, whatever the data set's size
_AHEAD = 2  # blocks under way


@dataclass(frozen=True)
class MomentShape:
    """Width D of u, columns J of t, task classes C (1: "parity"), N records in blocks of `block` rows."""

    dimension: int
    columns: int
    classes: int
    records: int
    block: int = BLOCK

    @property
    def joint(self) -> int:
        """Columns of M."""
        return self.classes * self.columns

    @property
    def floor_bytes(self) -> int:
        """Least bytes of the whole release: one masked copy of U and t each, what joins the classes, and M."""
        sent = self.dimension + self.columns + (self.classes + self.joint if self.classes > 1 else 0)
        return 8 * (self.records * sent + self.dimension * self.joint)

    def sizes(self) -> Iterator[int]:
        """Rows of each block."""
        for start in range(0, self.records, self.block):
            yield min(self.block, self.records - start)

    def program(self, n: int) -> StepProgram:
        """What the dealer deals for a block of n rows."""
        name = f"moment n={n} d={self.dimension} j={self.columns} c={self.classes}"
        masks = {"u": Mask("developer", (n, self.dimension)), "t": Mask("auditor", (n, self.columns))}
        if self.classes == 1:
            return StepProgram(name, masks, {"moment": Product("u", "t", "transposed_left")})
        masks |= {"y": Mask("developer", (n, self.classes)), "q'": Mask("auditor", (n, self.joint))}
        products = {"joint": Product("y", "t", "rowwise_outer"), "moment": Product("u", "q'", "transposed_left")}
        return StepProgram(name, masks, products)

    def plan(self) -> Plan:
        """All blocks."""
        full, rest = divmod(self.records, self.block)
        runs = [(self.program(self.block), full)] if full else []
        return Plan((*runs, *([(self.program(rest), 1)] if rest else [])))


def joined(shapes: Iterable[MomentShape]) -> Plan:
    """The plan of several moments, one after the other."""
    return Plan(tuple(run for shape in shapes for run in shape.plan().runs))


@dataclass(repr=False)
class _Block:
    step: StepRandomness
    u: torch.Tensor


def developer_moment(
    party: Party,
    shape: MomentShape,
    blocks: Iterable[tuple[torch.Tensor, torch.Tensor | None]],
    keep: Callable[[torch.Tensor], None],
) -> torch.Tensor:
    """blocks: (u int64 [n, D], one-hot y int64 [n, C] or None) in the agreed order. Returns noisy M, int64 [D, CJ].

    `keep` gets our share before the auditor's is awaited: with it a lost answer can be asked for again, at no cost.
    """
    total = torch.zeros(shape.dimension, shape.joint, dtype=torch.int64)
    waiting: list[_Block] = []
    source = iter(blocks)
    for n in shape.sizes():
        u, y = next(source)
        step = party.source.next(shape.program(n).name)
        masked = [step.mask("u").hide(u), *([] if y is None else [step.mask("y").hide(y)])]
        party.send(Kind.MASKED, *masked)
        waiting.append(_Block(step, u))
        if len(waiting) > _AHEAD:
            total += _developer_block(party, shape, waiting.pop(0))
    for block in waiting:
        total += _developer_block(party, shape, block)
    keep(total)
    return developer_open(party, total)


def developer_open(party: Party, share: torch.Tensor) -> torch.Tensor:
    """Wait for the auditor's noisy share; `share` int64 [D, CJ] is ours."""
    opened = open_to_developer(party, OPENED, from_share(share))
    assert opened is not None  # noqa: S101 (we are the developer)
    return opened


def _developer_block(party: Party, shape: MomentShape, block: _Block) -> torch.Tensor:
    n = len(block.u)
    if shape.classes == 1:
        (t_masked,) = party.receive(Kind.MASKED, (n, shape.columns))
        return developer_share(block.step, "moment", t_masked)
    t_masked, q_masked = party.receive(Kind.MASKED, (n, shape.columns), (n, shape.joint))
    q = developer_share(block.step, "joint", t_masked)  # [n, CJ]
    return OPERATIONS["transposed_left"](block.u, q) + developer_share(block.step, "moment", q_masked)


def auditor_moment(
    party: Party,
    shape: MomentShape,
    blocks: Iterable[torch.Tensor],
    add_noise: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """blocks: t int64 [n, J]. `add_noise` gets the auditor's share of M and returns what may leave in its place."""
    total = torch.zeros(shape.dimension, shape.joint, dtype=torch.int64)
    for t in blocks:
        n = len(t)
        step = party.source.next(shape.program(n).name)
        if shape.classes == 1:
            party.send(Kind.MASKED, step.mask("t").hide(t))
            (u_masked,) = party.receive(Kind.MASKED, (n, shape.dimension))
            total += auditor_share(step, "moment", u_masked, t)
        else:
            u_masked, y_masked = party.receive(Kind.MASKED, (n, shape.dimension), (n, shape.classes))
            q = auditor_share(step, "joint", y_masked, t)
            party.send(Kind.MASKED, step.mask("t").hide(t), step.mask("q'").hide(q))
            total += auditor_share(step, "moment", u_masked, q)
    auditor_open(party, add_noise(total))


def auditor_open(party: Party, noisy_share: torch.Tensor) -> None:
    """Send the noisy share, now or once more."""
    open_to_developer(party, OPENED, from_share(noisy_share))
