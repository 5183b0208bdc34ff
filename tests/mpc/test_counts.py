"""The one-sided product on the 32-bit ring: exact, uniform to each side, and as cheap as it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from secure_fair.audit.layout import Layout
from secure_fair.errors import MaskReuseError, ProtocolError
from secure_fair.mpc.dealing import server
from secure_fair.mpc.dealing.correlations import correction_elements, deal, expand
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.opening import open_to_auditor, open_words
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import RingGenerator
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.counts import CountShape, auditor_counts, developer_counts
from secure_fair.transport.wire import HEADER
from tests.mpc.chi_square import alike, uniform
from tests.mpc.three_threads import Network, Outcome, tap

FALSE_ALARM = 1e-6
LAYOUT = Layout(2)
RECORDS = 20_000
SHAPE = CountShape(RECORDS, (2, 4), LAYOUT.combine, block=6000)


def cells(n: int = RECORDS, layout: Layout = LAYOUT, seed: int = 5) -> torch.Tensor:
    """All columns of the developer's rows, int32 [n, P]."""
    generator = np.random.default_rng(seed)
    classes = max(layout.classes, 2)
    labels = generator.integers(0, classes, n).astype(np.uint8)
    return torch.from_numpy(layout.rows(labels, generator.integers(0, layout.bins or classes, n).astype(np.uint8)))


def groups(n: int = RECORDS, sizes: tuple[int, ...] = (2, 4), seed: int = 6) -> list[torch.Tensor]:
    """Full one-hot tables of each attribute, int32 [n, K]."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.eye(k, dtype=torch.int32)[torch.randint(k, (n,), generator=generator)] for k in sizes]


def count(network: Network, shape: CountShape, rows: torch.Tensor, tables: list[torch.Tensor]) -> Outcome:
    """Both sides; each returns (what it opened, its share, the frames that it received, bytes sent)."""
    kept = torch.cat([table[:, 1:] for table in tables], dim=1)

    def developer(party: Party) -> tuple[torch.Tensor | None, torch.Tensor, list[tuple[int, bytes]], int]:
        frames, before = tap(party), party.peer.bytes_sent
        product = developer_counts(party, shape, rows[:, 1:].contiguous().split(shape.block))
        share = shape.complete(product, torch.zeros(shape.kept, dtype=torch.int64), rows.sum(dim=0))
        return open_words(party, "counts", share), share, frames, party.peer.bytes_sent - before

    def auditor(party: Party) -> tuple[torch.Tensor | None, torch.Tensor, list[tuple[int, bytes]], int]:
        frames, before = tap(party), party.peer.bytes_sent
        product = auditor_counts(party, shape, kept.split(shape.block))
        share = shape.complete(product, kept.sum(dim=0), torch.zeros(shape.opened[1], dtype=torch.int64))
        return open_words(party, "counts", share), share, frames, party.peer.bytes_sent - before

    return network.run(shape.plan(), developer, auditor)


@pytest.mark.parametrize(
    ("layout", "sizes", "n"),
    [
        (Layout(2), (2, 4), 20_000),
        (Layout(2), (2,), 1),
        (Layout(2, bins=10), (3,), 5000),
        (Layout(5), (6, 2, 12), 7000),
        (Layout(3), (2,), 12_000),
    ],
)
def test_counts_are_exact(network: Network, layout: Layout, sizes: tuple[int, ...], n: int) -> None:
    """All blocks but the last are full; 12,000 has no short one."""
    rows, tables = cells(n, layout), groups(n, sizes)
    shape = CountShape(n, sizes, layout.combine, block=6000)
    outcome = count(network, shape, rows, tables)
    expected = torch.cat([table.T.long() @ rows.long() for table in tables])
    assert torch.equal(outcome.developer[0].long(), expected)
    assert outcome.auditor[0] is None
    assert [name for name, _ in outcome.disclosed] == ["counts"]


def test_sums_near_the_rings_end_are_exact(network: Network) -> None:
    """Integers other than one-hot: a sum of 2^31 - 1."""
    shape = CountShape(3, (2,), ((1, 0), (0, 1)))
    rows = torch.tensor([[1, 2**30], [1, 2**30 - 1], [1, 5]], dtype=torch.int32)
    table = torch.tensor([[0, 1], [0, 1], [1, 0]], dtype=torch.int32)
    outcome = count(network, shape, rows, [table])
    assert outcome.developer[0].tolist() == [[1, 5], [2, 2**31 - 1]]


def test_bytes_and_rounds(network: Network) -> None:
    """24 bytes a record for a binary task and four groups, both directions together; and frame headers."""
    shape = CountShape(RECORDS, (4,), LAYOUT.combine, block=6000)
    outcome = count(network, shape, cells(), groups(sizes=(4,)))
    sent = outcome.developer[3] + outcome.auditor[3]
    frames = len(outcome.developer[2]) + len(outcome.auditor[2])
    assert sent == shape.floor_bytes + frames * HEADER.size == 24 * RECORDS + 4 * 16 + 9 * HEADER.size
    assert [len(body) for _, body in outcome.auditor[2]] == [4 * 3 * n for n in (6000, 6000, 6000, 2000)]


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that the dealer gives out next: developer's, auditor's."""
    upcoming = [1, 2]
    monkeypatch.setattr(server, "fresh_seed", lambda: upcoming.pop(0).to_bytes(32, "big"))
    return upcoming


def test_what_each_side_sees_is_uniform(network: Network, seeds: list[int]) -> None:
    outcome = count(network, SHAPE, cells(), groups())
    assert seeds == []
    for _, share, frames, _ in (outcome.developer, outcome.auditor):
        masked = b"".join(body for kind, body in frames if kind == Kind.MASKED)
        assert len(masked) >= 4 * RECORDS * 3
        assert uniform(masked) > FALSE_ALARM
        assert len(share.unique()) == share.numel()  # a share of a count is not the count
    opened = [body for kind, body in outcome.developer[2] if kind == Kind.OPEN]
    assert len(opened) == 1
    assert Kind.OPEN not in [kind for kind, _ in outcome.auditor[2]]


def test_equal_counts_give_the_developer_the_same_view(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tables that differ in most records and have equal counts.

    Under one seed of the developer's (so that what is its own is the same), its view is the masked table, uniform and
    independent of all else, and the auditor's share, which is what was opened less its own share. The laws are equal:
    the masked tables are compared by chi-square, and what is opened is the same, bit for bit.
    """
    rows = cells()
    first = groups()
    order = torch.arange(RECORDS)
    for cell in range(rows.shape[1]):  # people change places within a cell of (label, prediction)
        members = torch.nonzero(rows[:, cell]).flatten()
        order[members] = members.roll(1)
    second = [table[order] for table in first]
    assert (first[1] != second[1]).any(dim=1).float().mean() > 0.5
    views = []
    for table, seed in ((first, 2), (second, 3)):
        upcoming = [1, seed]
        monkeypatch.setattr(server, "fresh_seed", lambda upcoming=upcoming: upcoming.pop(0).to_bytes(32, "big"))
        outcome = count(network, SHAPE, rows, table)
        masked = b"".join(body for kind, body in outcome.developer[2] if kind == Kind.MASKED)
        shapes = [(kind, len(body)) for kind, body in outcome.developer[2]]
        views.append((masked, shapes, outcome.developer[0], len(outcome.developer[2])))
    (masked, shapes, opened, _), (other, others, same, _) = views
    assert masked != other
    assert shapes == others
    assert torch.equal(opened, same)
    assert alike(masked, other) > FALSE_ALARM
    joint = np.frombuffer(masked, np.uint8) ^ np.frombuffer(other, np.uint8)
    assert uniform(joint.tobytes()) > FALSE_ALARM  # the two views share nothing


def test_without_a_mask_the_uniformity_test_fails() -> None:
    table = groups()[1]
    assert uniform(table.numpy().tobytes()) < FALSE_ALARM


def test_the_auditor_sees_the_developers_noise(network: Network) -> None:
    """What opens to the auditor is the sum of the shares, the developer's noised; the developer gets nothing."""
    shares = torch.tensor([7, -9], dtype=torch.int32), torch.tensor([1, 10], dtype=torch.int32)
    outcome = network.run(
        Plan(()), lambda party: open_to_auditor(party, shares[0]), lambda party: open_to_auditor(party, shares[1])
    )
    assert outcome.developer is None
    assert outcome.auditor.tolist() == [8, 1]


def test_a_step_is_dealt_once_and_masks_hide_once(network: Network) -> None:
    shape = replace(SHAPE, records=10, block=10)

    def developer(party: Party) -> None:
        step = party.source.next(shape.program(10).name)
        step.mask("cells").hide(torch.zeros(10, 3, dtype=torch.int32))
        with pytest.raises(MaskReuseError):
            step.mask("cells").hide(torch.ones(10, 3, dtype=torch.int32))
        with pytest.raises(ProtocolError, match="nothing more"):
            party.source.next(shape.program(10).name)

    network.run(shape.plan(), developer, lambda party: party.source.next(shape.program(10).name))


def test_dealing_agrees_with_what_both_expand() -> None:
    program = SHAPE.program(100)
    seeds = [number.to_bytes(32, "big") for number in (3, 4)]
    correction = deal(program, *(RingGenerator(seed, 9) for seed in seeds))
    assert len(correction) == correction_elements(program) == 3 * 4
    ours = expand(program, "developer", RingGenerator(seeds[0], 9), correction).counts["cells"]
    theirs = expand(program, "auditor", RingGenerator(seeds[1], 9), None).counts["cells"]
    product = ours.mask.long().T @ theirs.mask.long()
    assert torch.equal((ours.product + theirs.product), product.to(torch.int32))
    decoded = Plan.decode(SHAPE.plan().encode())
    assert decoded == SHAPE.plan()
    assert len(decoded) == 4
