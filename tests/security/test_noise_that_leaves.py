"""What a developer receives minus the true moment: the law that its cost promises, whatever the developer says.

Auditor and dealer are real processes; the developer is the test's own, so it knows the true moment and may lie.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secure_fair.errors import TransportError
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.protocols.moment import developer_open
from secure_fair.privacy.accountant import UNIT, gaussian_cost
from tests.releases.test_noise import FALSE_ALARM, follows_the_law
from tests.security.asking import Auditor, Integers, Office, moments, responses, zeros

RHO = gaussian_cost(2.0, 1e-5).rho / UNIT
MALE = np.array([i % 3 == 0 for i in range(20)], dtype=np.int64)
TONE = np.array([i % 3 for i in range(20)])
SEX = MALE[:, None]
EDGE = zeros(2001)
EDGE[0] = 2**63 - 1  # record 0 has the attribute: the moment is the largest number of the ring everywhere
EDGE[3, ::2] = 1  # and one beyond it, the smallest, in every second place
ANY = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, (20, 2001), dtype=np.int64)
LABELS = np.arange(20) % 3
LENGTH = math.sqrt(1 + 1 / 16)  # of u: a feature of unit norm and the constant 1/4


@dataclass(frozen=True)
class Case:
    """What the developer sends and says; the auditor's columns t; the noise's scale, derived here, is `factor` 2^16."""

    u: Integers
    columns: Integers = field(default_factory=lambda: SEX)
    factor: float = LENGTH / math.sqrt(2 * RHO)  # one changed number, at rho
    says: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    labels: Integers | None = None


WEIGHTS = 2**16 // np.array([3] * 4 + [2] * 4)  # of 8 people, four have three of the 20 records
CASES = {
    "nothing but noise": Case(zeros(2001)),
    "any moment": Case(ANY),
    "moments next to 2^63": Case(EDGE),
    "three groups": Case(
        ANY,
        np.eye(3, dtype=np.int64)[TONE],
        math.sqrt(2) * LENGTH / math.sqrt(2 * RHO),
        settings={"attributes__columns": '["SkinTone"]'},
    ),
    "classes": Case(ANY, settings={"fairness__criterion": "odds"}, says={"classes": 3}, labels=LABELS),
    "a clip of its own": Case(ANY, factor=0.5 * LENGTH / math.sqrt(2 * RHO), settings={"privacy__clip": 0.5}),
    "people with several records": Case(
        ANY,
        SEX * WEIGHTS[np.arange(20) % 8][:, None],
        2**16 * LENGTH / math.sqrt(2 * RHO),
        settings={"people": 8},
    ),
    "two moments for one epsilon": Case(
        ANY,
        factor=LENGTH / math.sqrt(RHO),
        says={"releases": 2},
        settings={"privacy__refresh": '"epoch"', "training__epochs": 2},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_noise_follows_the_law_of_its_cost(office: Office, name: str) -> None:
    """Chi-square with FALSE_ALARM for each of the nine moments; half the scale, or a fifth more, would be noticed."""
    case = CASES[name]
    with office.auditor(**case.settings) as auditor:
        asked = auditor.hello("orth", "moment", features=2000, **case.says)
        opened = moments(auditor, asked, case.u, labels=case.labels)
        assert auditor.command.wait() == 0
        assert len(auditor.debits()) == len(opened)
    joint = case.columns
    if case.labels is not None:
        joint = (np.eye(3, dtype=np.int64)[case.labels][:, :, None] * joint[:, None, :]).reshape(20, -1)
    for index, moment in enumerate(opened):
        u = np.pad(case.u, ((0, 0), (0, len(moment) - 2001)))
        noise = (moment.view(np.uint64) - (u.T @ joint).view(np.uint64)).view(np.int64).ravel()
        # the second of two has the current representation too: ||u||^2 = 2 + 1/16
        scale = 2**16 * case.factor * math.sqrt(1 + index / LENGTH**2)
        assert noise.size >= 2000
        assert follows_the_law(noise, scale), f"false alarm {FALSE_ALARM}"
        assert not follows_the_law(noise, scale / 2)
        assert not follows_the_law(noise, scale * 1.2)


def test_two_requests_have_noise_of_their_own(office: Office, tmp_path: Path) -> None:
    """On one ledger, which allows it; each is debited."""
    ledger = tmp_path / "ledger.sqlite"
    noise = []
    for _ in range(2):
        with office.auditor(ledger=ledger, policy={"epsilon": 4.0}) as auditor:
            noise += moments(auditor, auditor.hello("orth", "moment", features=2000), zeros(2001))
            assert auditor.command.wait() == 0
    assert len(auditor.debits()) == 2
    assert auditor.spent("r000").rho == 2 * gaussian_cost(2.0, 1e-5).rho
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 5.5 / math.sqrt(2001)  # below 1e-7


def test_a_lost_answer_is_sent_once_more_and_not_debited(office: Office, tmp_path: Path) -> None:
    """To whoever names its session and the same records; for others it is a new request."""
    ledger = tmp_path / "ledger.sqlite"
    with office.auditor(ledger=ledger) as auditor:
        shares: list[torch.Tensor] = []
        asked = auditor.hello("orth", "moment")
        (opened,) = moments(auditor, asked, zeros(17), stop=False, keep=shares.append)
        session = auditor.sessions[0]
    assert auditor.command.wait() == 1  # the developer has gone
    with office.auditor(ledger=ledger, dealer=False) as auditor:
        auditor.ask(auditor.hello("orth", "moment", earlier=session))
        assert auditor.sent_again()
        again = developer_open(Party("developer", auditor.connection, None), shares[0]).numpy()
        assert (again == opened).all()
        auditor.end()
        assert auditor.command.wait() == 0
    others: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (  # settings of both sides, and numbers of the request
        ({}, {"earlier": 32 * "0"}),
        ({}, {"train": 19}),
        ({}, {"features": 8}),
        ({"privacy__clip": 0.5}, {}),
        ({"privacy__epsilon": 1.9}, {}),
        ({"fairness__criterion": "odds"}, {}),
    )
    for settings, changes in others:
        with office.auditor(ledger=ledger, dealer=False, **settings) as auditor:
            asked = auditor.hello("orth", "moment", **{"earlier": session} | changes)
            auditor.ask(asked, range(asked.train))
            assert not auditor.sent_again()
            assert auditor.command.wait() == 1  # the budget is spent
            assert "would exceed" in auditor.command.errors[0]
    assert len(auditor.debits()) == 1


def test_the_identical_randomized_response_has_the_identical_bytes(office: Office, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    answers = []
    for train in (range(20), range(20), range(19, -1, -1)):
        with office.auditor(ledger=ledger, dealer=False, policy={"epsilon": 9.0}) as auditor:
            answers.append(responses(auditor, auditor.hello("orth", "randomized-response"), train))
            assert auditor.command.wait() == 0
    assert answers[0] == answers[1] == answers[2][::-1]
    assert len(auditor.debits()) == 2  # the other order is another request, though it says nothing new
    assert auditor.spent("r000").pure == 4 * UNIT


def test_attributes_in_another_order_are_another_request(office: Office, tmp_path: Path) -> None:
    """The stored bytes would be taken for the other attribute's; the flips of each are remembered."""
    ledger, answers = tmp_path / "ledger.sqlite", []
    for columns in ('["Male", "SkinTone"]', '["SkinTone", "Male"]'):
        with office.auditor(
            ledger=ledger, dealer=False, policy={"epsilon": 9.0}, attributes__columns=columns
        ) as auditor:
            answers.append(responses(auditor, auditor.hello("orth", "randomized-response")))
            assert auditor.command.wait() == 0
    assert answers[0] == answers[1][20:] + answers[1][:20]
    assert answers[0] != answers[1]
    assert len(auditor.debits()) == 2


def test_a_killed_auditor_has_debited_whatever_left(office: Office, tmp_path: Path) -> None:
    """SIGKILL while it debits, draws noise, stores or sends, or at once when the answer is here, on one ledger."""
    ledger, received = tmp_path / "ledger.sqlite", 0
    for delay in (0, 0.01, 0.02, 0.04, 0.08, 0.16, None, None, None):
        with office.auditor(ledger=ledger, policy={"epsilon": 50.0}) as auditor:

            def kill_soon(_: torch.Tensor, auditor: Auditor = auditor, delay: float | None = delay) -> None:
                if delay is not None:
                    time.sleep(delay)  # the answer may arrive meanwhile
                    auditor.command.process.kill()

            with contextlib.suppress(TransportError):
                asked = auditor.hello("orth", "moment", features=200)
                received += len(moments(auditor, asked, zeros(201), stop=False, keep=kill_soon))
                auditor.command.process.kill()
    assert received >= 3
    assert len(auditor.debits()) >= received
    assert auditor.spent("r000").rho >= received * gaussian_cost(2.0, 1e-5).rho
