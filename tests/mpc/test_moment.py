"""The moment, streamed in blocks: exact, with the noise that the auditor adds and the messages of its docstring."""

from __future__ import annotations

import pytest
import torch

from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.protocols.moment import MomentShape, auditor_moment, developer_moment
from secure_fair.transport.wire import HEADER
from tests.mpc.three_threads import Meter, Network, Traffic


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("records", "block"), [(100, 32), (64, 32), (5, 32), (32, 32), (1, 1)])
def test_moment_is_exact(network: Network, classes: int, records: int, block: int) -> None:
    shape = MomentShape(dimension=6, columns=3, classes=classes, records=records, block=block)
    drawn = torch.Generator().manual_seed(records)
    u = torch.randint(-(2**16), 2**16, (records, 6), generator=drawn)
    y = torch.nn.functional.one_hot(torch.randint(0, classes, (records,), generator=drawn), classes)
    t = torch.randint(0, 5, (records, 3), generator=drawn)
    noise = torch.randint(-1000, 1000, (6, shape.joint), generator=drawn)

    def developer(party: Party) -> tuple[torch.Tensor, torch.Tensor, Traffic]:
        meter, kept = Meter(party.peer), list[torch.Tensor]()
        labels = y.split(block) if classes > 1 else [None] * len(u.split(block))
        opened = developer_moment(party, shape, zip(u.split(block), labels, strict=True), kept.append)
        return opened, kept[0], meter.lap()

    def auditor(party: Party) -> tuple[torch.Tensor, Traffic]:
        meter, shares = Meter(party.peer), list[torch.Tensor]()

        def add_noise(share: torch.Tensor) -> torch.Tensor:
            shares.append(share)
            return share + noise

        auditor_moment(party, shape, t.split(block), add_noise)
        return shares[0], meter.lap()

    outcome = network.run(shape.plan(), developer, auditor)
    (opened, ours, sent), (theirs, received) = outcome.developer, outcome.auditor
    joint = (y[:, :, None] * t[:, None, :]).reshape(records, -1)
    assert torch.equal(opened, u.T @ joint + noise)
    assert torch.equal(ours + theirs, u.T @ joint)  # before the noise, which the developer never sees less of
    frames = sent.messages + received.messages
    assert sent.bytes + received.bytes == shape.floor_bytes + frames * HEADER.size
    assert sent.messages == -(-records // block)
    assert received.messages == sent.messages + 1


def test_blocks_cover_all_records() -> None:
    for records, block in ((1, 4), (4, 4), (9, 4)):
        shape = MomentShape(2, 2, 1, records, block)
        assert sum(shape.sizes()) == records
        assert [program.masks["u"].shape[0] for program in shape.plan()] == list(shape.sizes())
