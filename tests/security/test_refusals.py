"""What a developer asks for and must not get: refused with a reason that depends on public facts only.

Every request goes to two auditors whose tables differ in every attribute of every record; both must say the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.messages import COUNT_BYTES, PROTOCOL_VERSION, encode_step
from parties.schedule import training_plan
from secure_fair.errors import PeerRefusedError
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.randomness import SEED_BYTES
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.moment import MomentShape
from secure_fair.mpc.protocols.orthogonality import OrthogonalityShape
from secure_fair.mpc.terms import PublicShape, secure_orth
from secure_fair.privacy.accountant import Budget, gaussian_cost
from secure_fair.privacy.ledger import Ledger
from secure_fair.sections import MAX_EPOCHS, MAX_SEED
from tests.security.asking import IDS, RECORDS, Auditor, Office, moments, responses, zeros

FIRST = np.arange(8)  # the records of an honest first step


def hello(method: str, release: str, **changes: Any) -> Callable[[Auditor], None]:
    """A request whose numbers or names are the changed ones."""

    def ask(auditor: Auditor) -> None:
        auditor.ask(auditor.hello(method, release, **changes))
        auditor.connection.receive(Kind.HELLO)
        auditor.connection.receive(Kind.MASKED)

    return ask


def records(*positions: int) -> Callable[[Auditor], None]:
    """A request about these records."""

    def ask(auditor: Auditor) -> None:
        auditor.ask(auditor.hello("orth", "moment"), positions)

    return ask


def step(number: int = 0, positions: np.ndarray = FIRST) -> Callable[[Auditor], None]:
    """Announces this as the first step of a run that has been accepted."""

    def ask(auditor: Auditor) -> None:
        begin(auditor)
        auditor.connection.send(Kind.STEP, *encode_step(number, positions))
        auditor.connection.receive(Kind.MASKED)

    return ask


def frame(kind: Kind, elements: int, release: str = "gradient") -> Callable[[Auditor], None]:
    """Sends this in place of the masked representations, or features."""

    def ask(auditor: Auditor) -> None:
        if release == "gradient":
            begin(auditor)
            auditor.connection.send(Kind.STEP, *encode_step(0, FIRST))
        else:
            auditor.ask(auditor.hello("orth", "moment"))
            auditor.connection.receive(Kind.HELLO, size=COUNT_BYTES)
            auditor.source(MomentShape(17, 1, 1, 20).plan())
        auditor.connection.send(kind, bytes(8 * elements))
        auditor.connection.receive(Kind.MASKED)
        auditor.connection.receive(Kind.OPEN)

    return ask


def other_plan(auditor: Auditor) -> None:
    """Tells the dealer of a narrower step than the auditor derives."""
    asked = auditor.hello("orth", "gradient")
    auditor.ask(asked)
    auditor.source(Plan(((OrthogonalityShape(8, 8, 2).program(), 4),)))


def begin(auditor: Auditor) -> None:
    asked = auditor.hello("orth", "gradient")
    answer, _ = auditor.ask(asked)
    auditor.connection.receive(Kind.HELLO, size=COUNT_BYTES + SEED_BYTES)
    auditor.source(training_plan(secure_orth(), auditor.settings, PublicShape(16, 2, answer.groups), asked))


@dataclass(frozen=True)
class Case:
    """A request, what the developer is told, and whether it was debited (a refusal after the debit keeps it)."""

    ask: Callable[[Auditor], None]
    told: str
    options: dict[str, Any] = field(default_factory=dict)
    debited: bool = False
    dealer: bool = False


def at_work(ask: Callable[[Auditor], None], told: str, *, debited: bool = True) -> Case:
    return Case(ask, told, debited=debited, dealer=True)


CASES = {
    "release": Case(hello("orth", "gradient"), "release 'gradient' is not allowed", {"releases": ["moment"]}),
    "no such release": Case(hello("orth", "adapter"), "has no release 'adapter'"),
    "a predictor": Case(hello("orth", "predictor"), "release 'predictor' is not allowed"),
    "no such method": Case(hello("nothing", "moment"), "method 'nothing' is not known"),
    "another developer": Case(
        hello("orth", "moment"), "is not in the auditor's policy", {"policy": {"developers": ["sha256:" + 64 * "0"]}}
    ),
    "other settings": Case(hello("orth", "moment", settings=64 * "0"), "different settings"),
    "settings that are no digest": Case(hello("orth", "moment", settings="\u00e9"), "different settings"),
    "a name that is no text": Case(hello("orth", "gradient", run="\ud800"), "malformed hello"),
    "other protocol": Case(hello("orth", "moment", protocol=1), f"speaks protocol 1, we {PROTOCOL_VERSION}"),
    "more records than there are": Case(hello("orth", "moment", train=RECORDS + 1), "numbers make no sense"),
    "more records than are listed": Case(hello("orth", "moment", records=2**26), "both must list the same ids"),
    "no checkpoint": Case(hello("orth", "gradient", checkpoint_steps=0), "numbers make no sense"),
    "a moment too far": Case(hello("orth", "moment", first=1), "asks for moment 1 of 1"),
    "no epoch": Case(hello("orth", "moment", epochs=0), "numbers make no sense"),
    "endless epochs": Case(hello("orth", "gradient", epochs=2**31 - 1), "numbers make no sense"),
    "more moments": Case(hello("orth", "moment", releases=2), "asks for 2 moments, the settings agreed on 1"),
    "no moment": Case(hello("orth", "moment", releases=0), "asks for 0 moments, the settings agreed on 1"),
    "a wide adversary": Case(hello("adv", "gradient", width=2**31 - 1), "numbers make no sense"),
    "wide for its groups": Case(hello("adv", "gradient", width=2**24, classes=1), "numbers make no sense"),
    "a wide matrix": Case(hello("orth", "gradient", width=2**31 - 1), "numbers make no sense"),
    "no class": Case(hello("adv", "gradient", classes=0), "numbers make no sense"),
    "many classes": Case(hello("adv", "gradient", classes=2**31 - 1), "numbers make no sense"),
    "a wide moment": Case(hello("orth", "moment", features=2**20), "the width in 2..16384"),
    "a moment of many classes": Case(
        hello("orth", "moment", classes=1001), "classes must be in 1..1000", {"fairness__criterion": "odds"}
    ),
    "a record twice": Case(records(0, 0, *range(2, 20)), "named a record twice"),
    "an unknown record": Case(records(RECORDS, *range(1, 20)), "not in the agreed list"),
    "a negative record": Case(records(-1, *range(1, 20)), "not in the agreed list"),
    "fewer records than said": Case(records(*range(19)), "76 bytes for RECORDS (27); it must be 80"),
    "a step outside the set": at_work(step(positions=np.array([0, 1, 2, 3, 4, 5, 6, 20])), "outside the set fixed"),
    "a step outside the table": at_work(step(positions=np.array([0, 1, 2, 3, 4, 5, 6, -1])), "outside the set fixed"),
    "a record twice in a step": at_work(step(positions=np.array([0, 0, 2, 3, 4, 5, 6, 7])), "names a record twice"),
    "a step too early": at_work(step(number=1), "announced step 1 where 0 follows"),
    "a short step": at_work(step(positions=FIRST[:7]), "36 bytes for STEP (17); it must be 40"),
    "a narrow matrix": at_work(frame(Kind.MASKED, 4 * 15), "480 bytes for MASKED (19); it must be 544"),
    "a share for a mask": at_work(frame(Kind.OPEN, 8 * 16), "kind 20 where MASKED (19) is due"),
    "a narrow moment": at_work(
        frame(Kind.MASKED, 20 * 16, "moment"), "2560 bytes for MASKED (19); it must be 2720", debited=False
    ),
    "another plan": at_work(other_plan, "announced different plans", debited=False),
}


@pytest.mark.parametrize("name", CASES)
def test_a_request_is_refused_whatever_the_attributes(office: Office, name: str) -> None:
    case = CASES[name]
    told, said, debits = [], [], []
    with ExitStack() as stack:
        pair = [
            stack.enter_context(office.auditor(swapped=swapped, dealer=case.dealer, **case.options))
            for swapped in (False, True)
        ]
        for auditor in pair:
            with pytest.raises(PeerRefusedError) as refusal:
                case.ask(auditor)
            told.append(str(refusal.value))
            assert auditor.command.wait() == 1
            said.append(auditor.command.errors)
            debits.append([(release.kind, release.persons) for release in auditor.debits()])
    assert case.told in told[0]
    assert told[0] == told[1]
    assert len(said[0]) == 1
    assert said[0] == said[1]
    assert debits[0] == debits[1] == ([("gradient", 20)] if case.debited else [])


@pytest.mark.parametrize("release", ["moment", "randomized-response"])
def test_one_person_without_budget_is_enough(office: Office, tmp_path: Path, release: str) -> None:
    """Nobody is debited then; without that person's record the others get their answer."""
    budget, cost = Budget(2.0, 1e-5), gaussian_cost(0.5, 1e-5)
    told = []
    for swapped in (False, True):
        ledger = tmp_path / f"{swapped}.sqlite"
        with Ledger(ledger, by_person=False) as before:
            before.reserve("audit", b"earlier", [IDS[7]], cost, budget)
        with office.auditor(swapped=swapped, ledger=ledger, dealer=False) as auditor:
            with pytest.raises(PeerRefusedError) as refusal:
                hello("orth", release)(auditor)
            told.append(str(refusal.value))
            assert auditor.command.wait() == 1
            assert [debit.kind for debit in auditor.debits()] == ["audit"]
    assert "1 of 20 people in the request would exceed" in told[0]
    assert IDS[7] not in told[0]
    assert told[0] == told[1]
    with office.auditor(ledger=ledger) as auditor:
        others = [i for i in range(20) if i != 7]
        asked = auditor.hello("orth", release, train=19)
        _ = responses(auditor, asked, others) if release != "moment" else moments(auditor, asked, zeros(17), others)
        assert auditor.command.wait() == 0


def test_the_largest_numbers_that_settings_allow_are_not_refused(office: Office) -> None:
    largest = {"seed": MAX_SEED - 1, "epochs": MAX_EPOCHS, "batch_size": 2**31 - 1, "checkpoint_steps": 2**31 - 1}
    with office.auditor(dealer=False) as auditor:
        auditor.ask(auditor.hello("adv", "gradient", **largest))
        auditor.connection.receive(Kind.HELLO, size=COUNT_BYTES + SEED_BYTES)  # it has made the adversary's start
