"""Randomized response: its law, its memory, its debits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from secure_fair.errors import BudgetError, RefusedError
from secure_fair.privacy.accountant import UNIT, Budget, pure_cost
from secure_fair.privacy.ledger import Ledger, request_digest
from secure_fair.releases import randomized_response
from secure_fair.releases.moment import Integers
from secure_fair.releases.randomized_response import debias, flip, probabilities, respond, variance

BUDGET = Budget(4.0, 1e-5)
N = 400
PERSONS = [f"p{index}" for index in range(N)]
CODES = {"Male": np.arange(N) % 2, "Tone": np.arange(N) % 3}
CATEGORIES = {"Male": ("no", "yes"), "Tone": ("dark", "light", "medium")}


@pytest.mark.parametrize("categories", [2, 3, 7])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0, 50.0])
def test_flips_follow_the_law_that_epsilon_sets(categories: int, epsilon: float) -> None:
    p, q = probabilities(categories, epsilon)
    assert p + (categories - 1) * q == pytest.approx(1, abs=1e-15)
    assert math.log(p / q) == pytest.approx(epsilon, rel=1e-12)
    draws = flip(np.full(50_000, 1), categories, epsilon)
    expected = np.where(np.arange(categories) == 1, p, q) * len(draws)
    observed = np.bincount(draws, minlength=categories)
    if epsilon == 50.0:
        assert observed[1] == len(draws)
        return
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert chi2.sf(statistic, categories - 1) > 1e-7  # false alarm of each case


@pytest.mark.parametrize("categories", [2, 4])
def test_debiased_rows_are_unbiased_with_the_stated_variance(categories: int) -> None:
    epsilon, n = 1.0, 100_000
    rows = debias(flip(np.zeros(n, dtype=np.int64), categories, epsilon), categories, epsilon)
    largest = variance(categories, epsilon)
    np.testing.assert_allclose(rows.mean(axis=0), np.eye(categories)[0], atol=5.5 * math.sqrt(largest / n))
    assert rows.var(axis=0).max() == pytest.approx(largest, rel=0.05)


def ask(
    ledger: Ledger,
    name: str,
    persons: list[str],
    codes: dict[str, Integers],
    epsilon: float = 1.0,
    budget: Budget = BUDGET,
    categories: Mapping[str, Sequence[str]] = CATEGORIES,
) -> Integers:
    answer = respond(ledger, budget, request_digest({"name": name}), persons, codes, categories, epsilon)
    return np.frombuffer(answer, dtype=np.uint8).reshape(len(codes), -1).astype(np.int64)


def test_asking_again_returns_the_same_flips(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger", by_person=True) as ledger:
        first = ask(ledger, "a", PERSONS, CODES)
        assert (ask(ledger, "a", PERSONS, CODES) == first).all()
        assert ledger.spent("p0") == pure_cost([0.5, 0.5])
    order = np.random.default_rng(0).permutation(N)
    with Ledger(tmp_path / "ledger", by_person=True) as ledger:
        again = ask(ledger, "b", [PERSONS[i] for i in order], {name: codes[order] for name, codes in CODES.items()})
        assert (again == first[:, order]).all()
        assert ledger.spent("p0").pure == 2 * UNIT  # another request: debited, though it says nothing new
        other = ask(ledger, "c", PERSONS, CODES, epsilon=0.9)
        assert (other != first).any()


def test_a_flip_of_other_categories_is_another(tmp_path: Path) -> None:
    """The first one's number would name another category now."""
    with Ledger(tmp_path / "ledger", by_person=True) as ledger:
        first = ask(ledger, "a", PERSONS, {"Male": CODES["Male"]})
        turned = ask(ledger, "b", PERSONS, {"Male": 1 - CODES["Male"]}, categories={"Male": ("yes", "no")})
    kept = probabilities(2, 1.0)[0]
    for answer, codes in ((first, CODES["Male"]), (turned, 1 - CODES["Male"])):
        assert abs((answer[0] == codes).mean() - kept) < 5.5 * math.sqrt(kept * (1 - kept) / N)  # below 1e-7


def test_one_flip_for_a_person_with_several_records(tmp_path: Path) -> None:
    persons = [f"p{index // 4}" for index in range(N)]
    codes = {"Male": np.where(np.arange(N) % 4 == 0, 0, 1)}  # each person shows 1 three times and 0 once
    with Ledger(tmp_path / "ledger", by_person=True) as ledger:
        answers = ask(ledger, "a", persons, codes, epsilon=3.9)[0].reshape(-1, 4)
        assert (answers == answers[:, :1]).all()
        assert answers.mean() > 0.85  # 1 with probability 0.98
        assert ledger.spent("p0") == pure_cost([3.9])


def test_the_budget_cuts_it_off_and_refusals_do_not_depend_on_attributes(tmp_path: Path) -> None:
    assert refusals_agree(tmp_path)


def test_a_refusal_with_attribute_values_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = randomized_response.respond

    def telling(*request):  # type: ignore[no-untyped-def]
        try:
            return honest(*request)
        except BudgetError as error:
            raise BudgetError(f"{error} {request[4]['Male'].sum()}") from None

    monkeypatch.setitem(globals(), "respond", telling)
    assert not refusals_agree(tmp_path)


def refusals_agree(folder: Path) -> bool:
    """The same ids with other attributes: the same words, at the same request."""
    told = []
    for name, codes in (("a", CODES), ("b", {key: (column * 0) for key, column in CODES.items()})):
        with Ledger(folder / name, by_person=True) as ledger:
            for attempt in range(2):
                ask(ledger, str(attempt), PERSONS, codes, epsilon=1.5)
            with pytest.raises(BudgetError) as refusal:
                ask(ledger, "one more", PERSONS, codes, epsilon=1.5)
            told.append(str(refusal.value))
    return told[0] == told[1]


def test_more_categories_than_a_byte_holds_are_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger", by_person=True) as ledger, pytest.raises(RefusedError, match="256"):
        respond(
            ledger, BUDGET, b"", PERSONS, {"Male": CODES["Male"]}, {"Male": [str(index) for index in range(257)]}, 1.0
        )
