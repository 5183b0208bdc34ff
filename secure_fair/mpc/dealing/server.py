"""The dealer's session: compares plans, hands out seeds, streams corrections. It sees shapes and program names only."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol

from secure_fair.errors import ProtocolError
from secure_fair.mpc.dealing.correlations import deal
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.dealing.source import CREDIT, REQUEST_INDEX, SESSION_BYTES
from secure_fair.mpc.dealing.tuples import deal_tuple
from secure_fair.mpc.engine.randomness import RingGenerator, fresh_seed
from secure_fair.mpc.kinds import Kind
from secure_fair.transport.frames import Connection

MAX_PLAN_BYTES = 2**24
MAX_REQUEST_BYTES = 4096


class SessionLog(Protocol):
    """What the dealer may write down."""

    def __call__(self, event: str, /, **facts: str | int) -> None: ...


def serve_session(
    developer: Connection, auditor: Connection, log: SessionLog, progress: Callable[[int, int], None] = lambda *_: None
) -> int:
    """Serve one session to its end; returns how many steps were dealt. `progress` gets that, and how many there are.

    Seeds are fresh for each session and each index is used once, so no mask can serve two values even when a run is
    resumed: a resumed run is a new session.
    """
    plans = [bytes(party.receive(Kind.PLAN, max_size=MAX_PLAN_BYTES)) for party in (developer, auditor)]
    if plans[0] != plans[1]:
        raise ProtocolError(
            "developer and auditor announced different plans (records, batch size, method or criterion differ); "
            "compare their settings files"
        )
    plan = Plan.decode(plans[0])
    session = secrets.token_bytes(SESSION_BYTES)
    seeds = (fresh_seed(), fresh_seed())
    for party, seed in zip((developer, auditor), seeds, strict=True):
        party.send(Kind.SEED, session + seed)
    log("session", session=session.hex(), steps=len(plan), plan=plan.digest()[:16])

    programs = iter(plan)
    dealt = requests = 0
    while True:
        kind, payload = developer.receive_any((Kind.CREDIT, Kind.REQUEST, Kind.END))
        if kind == Kind.END:
            auditor.receive(Kind.END, size=0)
            log("session ended", session=session.hex(), dealt=dealt, tuples=requests)
            return dealt
        if kind == Kind.REQUEST:
            if bytes(auditor.receive(Kind.REQUEST, max_size=MAX_REQUEST_BYTES)) != bytes(payload):
                raise ProtocolError("developer and auditor asked for different tuples; they run different programs")
            generators = [RingGenerator(seed, REQUEST_INDEX + requests) for seed in seeds]
            requests += 1
            developer.send(Kind.REQUEST, memoryview(deal_tuple(bytes(payload), *generators).numpy()).cast("B"))
            continue
        if len(payload) != CREDIT.size:
            raise ProtocolError("a malformed credit arrived from the developer")
        for _ in range(CREDIT.unpack(payload)[0]):
            program = next(programs, None)
            if program is None:
                break
            correction = deal(program, RingGenerator(seeds[0], dealt), RingGenerator(seeds[1], dealt))
            dealt += 1
            progress(dealt, len(plan))
            developer.send(Kind.CORRECTION, *([memoryview(correction.numpy()).cast("B")] if correction.numel() else []))
