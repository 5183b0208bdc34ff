"""Four ways to read people off audits: each works on exact counts without the rules, none under the default policy.

A world of records, each in one of two groups by a fair coin that the attacker wants; it knows ids, labels and
predictions, which are its own to choose, and, where an attack says so, everybody's coin but one. What it is shown is
put together here, without processes, from the functions that an audit calls (`noised`, `shown`, the ledger); that an
audit sends what they make is held by tests/parties/test_audit.py. Under the default policy the ledger ends it after a
few audits, and those are no more than the account allows: an advantage over guessing of 2 Phi(mu / 2) - 1 at most,
mu = sqrt(2 rho). An advantage measured in `runs` may be 5 / sqrt(runs) above: five standard deviations at least, so
a test that holds one against its bound is a false alarm with a probability of at most FALSE_ALARM.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from secure_fair.audit.layout import Layout
from secure_fair.audit.release import AuditPlan, noised, threshold_scale
from secure_fair.audit.suppression import shown
from secure_fair.errors import BudgetError
from secure_fair.privacy.accountant import UNBOUNDED_COST, UNIT, Budget, gaussian_cost
from secure_fair.privacy.ledger import Ledger

LAYOUT = Layout(2)
TABLE = [("Sex", "f", "m")]
SMALLEST = 20
SIGMAS = 5.0
FALSE_ALARM = 3e-7  # of each; 1 - Phi(5) = 2.9e-7
DEFAULT = Budget(4.0, 1e-5)  # of the policy file that `config init` writes
COST = gaussian_cost(2.0, 1e-5)  # of an audit at the default epsilon
Codes = NDArray[np.uint8]
Counts = NDArray[np.float64]
Look = Callable[[Codes, Codes], Counts]  # labels, predictions -> counts [2, 4], NaN where not shown


def truth(groups: Codes, labels: Codes, predictions: Codes) -> NDArray[np.int64]:
    rows = LAYOUT.rows(labels, predictions)
    return np.array([rows[groups == g].sum(axis=0) for g in range(2)])


def exact(groups: Codes, *, tested: bool = True) -> Look:
    """An auditor of exact counts; tested: under the noise of both parties."""

    def look(labels: Codes, predictions: Codes) -> Counts:
        counts = truth(groups, labels, predictions)
        seen = counts.astype(np.int32)
        if tested:
            seen = noised(noised(seen, threshold_scale(SMALLEST)), threshold_scale(SMALLEST))
        return np.where(shown(seen.astype(np.float64), TABLE, SMALLEST), counts, np.nan)

    return look


def noisy(groups: Codes, labels: Codes, predictions: Codes, part: float = 1.0) -> Counts:
    """Counts with the noise of one audit at the default epsilon, or with a part of it."""
    scale = AuditPlan(LAYOUT, (2,), len(groups), 1).scale(COST)
    return noised(truth(groups, labels, predictions).astype(np.int32), scale * part).astype(np.float64)


class Noised:
    """An auditor of noised counts, with a ledger and the default policy."""

    def __init__(self, groups: Codes, folder: Path) -> None:
        self._groups = groups
        self._ledger = Ledger(folder / "ledger.sqlite", by_person=False)
        self.audits = 0

    def __call__(self, labels: Codes, predictions: Codes) -> Counts:
        people = [f"r{i}" for i in range(len(labels))]
        self._ledger.reserve("audit", self.audits.to_bytes(4, "big"), people, COST, DEFAULT)
        self.audits += 1
        return noisy(self._groups, labels, predictions)

    def close(self) -> float:
        """mu of all that was released."""
        rho = self._ledger.spent("r0").rho
        self._ledger.close()
        return math.sqrt(2 * rho / UNIT)


def coins(n: int, seed: int) -> Codes:
    return np.random.default_rng(seed).integers(0, 2, n).astype(np.uint8)


def until_refused(look: Look, labels: Codes, checkpoints: list[Codes]) -> list[Counts]:
    """What the auditor answers before it answers no more."""
    answers = []
    for predictions in checkpoints:
        try:
            answers.append(look(labels, predictions))
        except BudgetError:
            break
    return answers


def changed(answers: list[Counts], checkpoints: list[Codes], labels: Codes) -> dict[int, int]:
    """Record -> group, where two checkpoints differ in records that all moved one way and the counts name one group."""
    found: dict[int, int] = {}
    for before, after, older, newer in zip(answers, answers[1:], checkpoints, checkpoints[1:], strict=False):
        for label in (0, 1):
            for to in (0, 1):
                moved = np.flatnonzero((labels == label) & (older != newer) & (newer == to))
                others = ((labels == label) & (older != newer) & (newer != to)).any()
                gain = (after - before)[:, 2 * label + to]
                if len(moved) and not others and np.isfinite(gain).all():
                    for group in (0, 1):
                        if gain[group] == len(moved):
                            found |= dict.fromkeys(moved.tolist(), group)
    return found


def slowly_changing(n: int, steps: int, seed: int) -> tuple[Codes, list[Codes]]:
    """A model at 40 checkpoints: between two, one to three records change their prediction."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n).astype(np.uint8)
    current = np.where(generator.random(n) < 0.8, labels, 1 - labels).astype(np.uint8)
    checkpoints = [current]
    for _ in range(steps - 1):
        current = current.copy()
        current[generator.choice(n, generator.integers(1, 4), replace=False)] ^= 1
        checkpoints.append(current)
    return labels, checkpoints


def test_forty_checkpoints(tmp_path: Path) -> None:
    groups = coins(2000, 1)
    labels, checkpoints = slowly_changing(2000, 40, 2)
    found = changed(until_refused(exact(groups), labels, checkpoints), checkpoints, labels)
    assert len(found) >= 25
    assert all(groups[record] == group for record, group in found.items())

    auditor = Noised(groups, tmp_path)
    answers = until_refused(auditor, labels, checkpoints)
    assert auditor.audits == len(answers) < 5  # the account ends it
    assert auditor.close() <= math.sqrt(2 * DEFAULT.limits[0] / UNIT)


def test_one_record_at_a_time(tmp_path: Path) -> None:
    """Thirty audits that differ in one prediction each: thirty people; noised: the advantage the account allows."""
    groups = coins(400, 3)
    labels = np.zeros(400, dtype=np.uint8)
    start = (np.arange(400) < 200).astype(np.uint8)
    checkpoints = [start]
    for record in range(30):
        checkpoints.append(checkpoints[-1].copy())
        checkpoints[-1][record] ^= 1
    found = changed(until_refused(exact(groups), labels, checkpoints), checkpoints, labels)
    assert len(found) == 30
    assert all(groups[record] == group for record, group in found.items())

    auditor = Noised(groups, tmp_path)
    asked = checkpoints[: len(until_refused(auditor, labels, checkpoints))]
    mu = auditor.close()
    assert 1 < len(asked) < 5
    right, runs = 0, 1000
    for run in range(runs):
        groups[0] = run % 2
        answers = [noisy(groups, labels, predictions) for predictions in asked]
        right += guess(answers, groups, labels, asked) == groups[0]
    assert allowed(right, runs, mu), f"false alarm {FALSE_ALARM}"


def guess(answers: list[Counts], groups: Codes, labels: Codes, checkpoints: list[Codes]) -> int:
    """The group of record 0 under which the answers are likelier, everybody else's being known."""
    gain = 0.0
    for answer, predictions in zip(answers, checkpoints, strict=False):
        worlds = []
        for group in (0, 1):
            groups_then = groups.copy()
            groups_then[0] = group
            worlds.append(((answer - truth(groups_then, labels, predictions)) ** 2).sum())
        gain += worlds[0] - worlds[1]
    return int(gain > 0)


def allowed(right: int, runs: int, mu: float) -> bool:
    """Whether the advantage over guessing is what a Gaussian mechanism of this mu allows, or less."""
    return bool(2 * right / runs - 1 <= bound(mu) + SIGMAS / math.sqrt(runs))


def bound(mu: float) -> float:
    return float(2 * norm.cdf(mu / 2) - 1)


@pytest.mark.parametrize("halved", [False, True])
def test_a_person_isolated_by_its_prediction(tmp_path: Path, halved: bool) -> None:
    """The cell of label 0, prediction 1 holds the target and 120 accomplices whose groups are known.

    An exact count less theirs is the target's group: one audit is enough. Noised, the attacker does as well as the
    account allows and no better; with half the noise it does better, and 4000 runs tell so: it is 11 standard
    deviations from the bound then, 6 from what is allowed, which it misses once in 10^10.
    """
    n, runs = 400, 4000
    labels = np.zeros(n, dtype=np.uint8)
    predictions = (np.arange(n) < 121).astype(np.uint8)  # 0: target, 1 to 120: accomplices
    groups = (np.arange(n) % 2).astype(np.uint8)
    for target in (0, 1):
        groups[0] = target
        seen = exact(groups)(labels, predictions)
        assert seen[1, 1] - groups[1:121].sum() == target
    right = 0
    for run in range(runs):
        groups[0] = run % 2
        answer = noisy(groups, labels, predictions, 0.5 if halved else 1.0)
        right += guess([answer], groups, labels, [predictions]) == groups[0]
    assert allowed(right, runs, math.sqrt(2 * COST.rho / UNIT)) is not halved, f"false alarm {FALSE_ALARM}"


def test_alone_in_a_cell_nobody_is_shown() -> None:
    """Without accomplices the cell is small, and exact audits leave it out, with what would give it away.

    The noise of the test for smallness lets one look in 80,000 pass: two of twenty in one of 3e7 runs.
    """
    labels = np.zeros(400, dtype=np.uint8)
    predictions = (np.arange(400) == 0).astype(np.uint8)
    seen = [exact(coins(400, seed))(labels, predictions) for seed in range(20)]
    assert sum(not np.isnan(counts[:, 1]).all() for counts in seen) <= 1


def test_refusals_are_no_oracle(tmp_path: Path) -> None:
    """A cell of 19 known people and the target: whether it is shown says who the target is, if the test is exact.

    Under the noise of both parties the difference it makes is small, although the developer knows its own noise.
    """
    n, runs = 400, 1500
    labels = np.zeros(n, dtype=np.uint8)
    predictions = np.zeros(n, dtype=np.uint8)
    predictions[:39] = 1  # the target, 19 in group 0 and 19 in group 1: its group's cell has 20, the other 19
    groups = (np.arange(n) % 2).astype(np.uint8)
    for target in (0, 1):
        groups[0] = target
        plain = truth(groups, labels, predictions).astype(np.float64)
        visible = plain >= SMALLEST  # an exact threshold, without complements: an oracle
        assert visible[target, 1]
        assert not visible[1 - target, 1]
    right = 0
    for run in range(runs):
        groups[0] = run % 2
        counts = truth(groups, labels, predictions).astype(np.int32)
        ours = noised(counts, threshold_scale(SMALLEST)) - counts  # the developer knows this
        tested = noised(counts + ours, threshold_scale(SMALLEST)).astype(np.float64)
        open_ = tested >= SMALLEST
        # Its best guess: the group whose cell was more above its threshold than the developer's noise explains.
        score = [(2 * int(open_[g, 1]) - 1) - 2 * norm.cdf(ours[g, 1] / threshold_scale(SMALLEST)) for g in (0, 1)]
        right += (score[1] > score[0]) == groups[0]
    # The counts of two cells, 1 apart each, under noise of scale 5 that the developer does not know: as a Gaussian
    # mechanism of sensitivity sqrt(2) and that scale, of which the shown bits are a function.
    mu = math.sqrt(2) / threshold_scale(SMALLEST)
    assert allowed(right, runs, mu), f"false alarm {FALSE_ALARM}"
    assert bound(mu) + SIGMAS / math.sqrt(runs) < 0.25


def test_exact_audits_end_a_budget_and_a_budget_excludes_them(tmp_path: Path) -> None:
    """The id-set rule: nobody with a bounded account is in an exact audit, and nobody in one gets an account."""
    with Ledger(tmp_path / "ledger.sqlite", by_person=False) as ledger:
        ledger.reserve("moment", b"1", ["a", "b"], COST, DEFAULT)
        with pytest.raises(BudgetError, match="1 of 2 people in the request have a privacy budget"):
            ledger.reserve("audit exact x", b"2", ["b", "c"], UNBOUNDED_COST, DEFAULT, exact=3)
        ledger.answer("audit exact y", b"3", ["c", "d"], UNBOUNDED_COST, DEFAULT, lambda: b"counts", exact=1)
        with pytest.raises(BudgetError, match="audited exactly 1 times, and the policy's max_audits is 1"):
            ledger.check(["c", "d"], UNBOUNDED_COST, DEFAULT, kind="audit exact y", exact=1)
        with pytest.raises(BudgetError, match="would exceed"):
            ledger.reserve("moment", b"4", ["d"], COST, DEFAULT)
        assert [release.kind for release in ledger.releases()] == ["moment", "audit exact y"]
