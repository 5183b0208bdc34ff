"""Small plans, and what the tests of dealing do with them."""

from __future__ import annotations

from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import RingGenerator
from secure_fair.mpc.protocols.adversary import AdversaryShape
from secure_fair.mpc.protocols.orthogonality import OrthogonalityShape

SMALL = OrthogonalityShape(n=4, d=3, k=2)
OTHER = OrthogonalityShape(n=4, d=3, k=2, classes=2)
EVERYTHING = (SMALL.program(), OTHER.program(), AdversaryShape(4, 3, 2, 0.1, 0.05).program())


def generators() -> tuple[RingGenerator, RingGenerator]:
    return RingGenerator(bytes([1] * 32)), RingGenerator(bytes([2] * 32))


def nothing(_: Party) -> None:
    pass
