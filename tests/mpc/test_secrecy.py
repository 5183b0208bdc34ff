"""What one party sees of the other is uniform, whatever the other's input; seeds are fixed, so nothing is by chance.

A test of a true law fails with probability FALSE_ALARM for a random choice of seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch

from secure_fair.fairness import objectives
from secure_fair.mpc.dealing import server
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import RingGenerator
from secure_fair.mpc.engine.sharing import encode, from_share
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols import adversary, orthogonality, overlap
from secure_fair.mpc.protocols.adversary import AdversaryShape
from secure_fair.mpc.protocols.orthogonality import OrthogonalityShape
from secure_fair.mpc.protocols.overlap import OverlapShape
from tests.mpc.chi_square import alike, uniform
from tests.mpc.three_threads import Network, tap

FALSE_ALARM = 1e-6
STEPS = 24
ORTH = OrthogonalityShape(n=256, d=8, k=2, classes=2)
PARITY = OrthogonalityShape(n=256, d=8, k=2)
ADV = AdversaryShape(n=256, d=8, j=1, rate=0.1, decay=0.05)
ENT = replace(ADV, entropy=True)
ADAPTERS = OverlapShape.of([torch.empty(96, 8), torch.empty(288, 8)], 4)


@dataclass
class Seen:
    """Bodies of the frames that each party received, by step."""

    developer: list[bytes] = field(default_factory=list)
    auditor: list[bytes] = field(default_factory=list)

    def frames(self, party: str, position: int, of: int) -> bytes:
        """The frame at `position` of every step, joined; a step has `of` frames."""
        return b"".join(getattr(self, party)[position::of])


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that the dealer gives out next: developer's, auditor's."""
    upcoming = [1, 2]
    monkeypatch.setattr(server, "fresh_seed", lambda: upcoming.pop(0).to_bytes(32, "big"))
    return upcoming


def table(flipped: bool) -> torch.Tensor:
    """A biased attribute of two groups: a quarter has it."""
    has = (torch.arange(ORTH.n) % 4 == 0).long()
    return torch.nn.functional.one_hot(1 - has if flipped else has, 2)


def watch(network: Network, shape: OrthogonalityShape | AdversaryShape, onehot: torch.Tensor) -> Seen:
    """Run STEPS steps on one batch."""
    generator = torch.Generator().manual_seed(7)
    u = objectives.normalise(torch.randn(shape.n, shape.d, generator=generator, dtype=torch.float64))
    labels = torch.nn.functional.one_hot(torch.arange(shape.n) % 2, 2)

    def developer(party: Party) -> list[bytes]:
        frames = tap(party)
        w = from_share(torch.zeros(shape.d + 1, 1, dtype=torch.int64))
        for _ in range(STEPS):
            if isinstance(shape, AdversaryShape):
                _, w = adversary.DeveloperStep(party, shape, w).send(encode(objectives.with_bias(u))).finish()
            else:
                y = labels if shape.classes else None
                orthogonality.DeveloperStep(party, shape, y).send(encode(u)).finish()
        assert {kind for kind, _ in frames} == {Kind.MASKED, Kind.OPEN}
        return [body for _, body in frames]

    def auditor(party: Party) -> list[bytes]:
        frames = tap(party)
        w = from_share(torch.zeros(shape.d + 1, 1, dtype=torch.int64))
        for _ in range(STEPS):
            if isinstance(shape, AdversaryShape):
                w = adversary.auditor_step(party, shape, onehot[:, 1:], w)
            else:
                orthogonality.auditor_step(party, shape, onehot)
        assert {kind for kind, _ in frames} == {Kind.MASKED}
        return [body for _, body in frames]

    outcome = network.run(Plan(((shape.program(), STEPS),)), developer, auditor)
    return Seen(outcome.developer, outcome.auditor)


@pytest.mark.usefixtures("seeds")
@pytest.mark.parametrize(("shape", "developer_gets", "auditor_gets"), [(PARITY, 2, 2), (ORTH, 3, 3)])
def test_every_message_of_orth_is_uniform(
    network: Network, shape: OrthogonalityShape, developer_gets: int, auditor_gets: int
) -> None:
    """Masked tables and moments, and the auditor's share of what is opened."""
    seen = watch(network, shape, table(flipped=False))
    for party, count in (("developer", developer_gets), ("auditor", auditor_gets)):
        for position in range(count):
            assert uniform(seen.frames(party, position, count)) > FALSE_ALARM, (party, position)


@pytest.mark.usefixtures("seeds")
@pytest.mark.parametrize("shape", [ADV, ENT], ids=["adv", "ent"])
def test_every_message_of_adv_and_ent_is_uniform(network: Network, shape: AdversaryShape) -> None:
    seen = watch(network, shape, table(flipped=False))
    for party, phases, frames in (("developer", 1, 5), ("auditor", 2, 6)):
        for position in range(frames):
            body = seen.frames(party, position, frames)
            if position == phases:  # 23 of 24 bits: of three bytes the two lower ones are full
                low, middle, high = torch.frombuffer(bytearray(body), dtype=torch.uint8).reshape(-1, 3).T.long()
                assert int(high.max()) < 2**7
                assert uniform(low) > FALSE_ALARM
                assert uniform(middle) > FALSE_ALARM
                assert uniform(high, 2**7) > FALSE_ALARM
            else:
                assert uniform(body) > FALSE_ALARM, (party, position)


@pytest.mark.usefixtures("seeds")
def test_every_message_of_orth_adapter_is_uniform(network: Network) -> None:
    """Masked factors and moments, and the auditor's share of what is opened."""

    def developer(party: Party) -> list[bytes]:
        frames = tap(party)
        for _ in range(STEPS):
            overlap.DeveloperStep(party, ADAPTERS, [torch.full((d, r), 0.1) for d, r, _ in ADAPTERS.layers]).finish()
        return [body for _, body in frames]

    def auditor(party: Party) -> list[bytes]:
        frames = tap(party)
        for _ in range(STEPS):
            overlap.auditor_step(party, ADAPTERS, [torch.full((d, other), 0.2) for d, _, other in ADAPTERS.layers])
        return [body for _, body in frames]

    outcome = network.run(Plan(((ADAPTERS.program(), STEPS),)), developer, auditor)
    seen = Seen(outcome.developer, outcome.auditor)
    for party in ("developer", "auditor"):
        for position in range(2):
            assert uniform(seen.frames(party, position, 2)) > FALSE_ALARM, (party, position)


def test_these_tests_notice_a_mask_that_is_too_short() -> None:
    """Of 3 bits in place of 64."""
    masks = [RingGenerator(bytes(32), index).bits((ORTH.n,), 3) for index in (1, 2)]
    plain, flipped = ((table(f)[:, 1] - mask).numpy().tobytes() for f, mask in zip((False, True), masks, strict=True))
    assert uniform(plain) < FALSE_ALARM
    assert alike(plain, flipped) < FALSE_ALARM


@pytest.mark.parametrize(("shape", "frames"), [(PARITY, 2), (ORTH, 3), (ADV, 5)], ids=["parity", "odds", "adv"])
def test_messages_stay_uniform_to_one_who_knows_the_developers_side(
    network: Network, seeds: list[int], shape: OrthogonalityShape | AdversaryShape, frames: int
) -> None:
    """Same inputs and same randomness of the developer's, other seed of the auditor's: what differs is uniform.

    This fails when a share that the auditor sends was hidden by nothing but what the developer knows.
    """
    seen = []
    for auditor in (2, 3):
        seeds[:] = [1, auditor]
        seen.append(watch(network, shape, table(flipped=False)))
    for position in range(frames):
        if (shape, position) == (ADV, 1):
            continue  # phases have 23 of 24 bits; see above
        first, second = (
            torch.frombuffer(bytearray(each.frames("developer", position, frames)), dtype=torch.int64) for each in seen
        )
        assert uniform((second - first).numpy().tobytes()) > FALSE_ALARM, position


def test_masked_table_says_nothing_of_the_attributes(network: Network, seeds: list[int]) -> None:
    """All attributes flipped, once under the same masks and once under fresh ones."""
    runs = []
    for number, flipped in ((0, False), (0, True), (100, True)):
        seeds[:] = [number, number + 1]
        runs.append(watch(network, PARITY, table(flipped)).frames("developer", 0, 2))
    plain, same_masks, fresh_masks = runs
    assert alike(plain, fresh_masks) > FALSE_ALARM
    first, second = (torch.frombuffer(bytearray(b), dtype=torch.int32).reshape(STEPS, -1) for b in (plain, same_masks))
    difference = (table(flipped=True) - table(flipped=False)).flatten()
    assert torch.equal(second - first, difference.expand(STEPS, -1))  # so the mask did not depend on the table
    masks = torch.cat([table(flipped=False).flatten() - step for step in first])
    assert len(masks.unique()) == masks.numel()  # no mask twice, in any step


def test_sessions_have_masks_of_their_own(network: Network) -> None:
    """With the operating system's seeds, as in a real run."""
    first, second = (watch(network, PARITY, table(flipped=False)).frames("developer", 0, 2) for _ in range(2))
    words = [torch.frombuffer(bytearray(body), dtype=torch.int64) for body in (first, second)]
    assert len(torch.cat(words).unique()) == 2 * words[0].numel()
