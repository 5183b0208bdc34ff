"""The ledger: budgets per person, stored answers, what refunds nothing, what is detected."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from secure_fair.cli.ledger import ledger as command
from secure_fair.errors import BudgetError, LedgerError
from secure_fair.privacy import accountant
from secure_fair.privacy.accountant import NOTHING, UNBOUNDED_COST, UNIT, gaussian_cost, pure_cost
from secure_fair.privacy.ledger import Ledger, request_digest
from tests.privacy.budgets import BUDGET, DELTA, ONE, PERSONS, ask, never_called


def test_each_person_is_debited_once_for_a_release(ledger: Ledger) -> None:
    ask(ledger, 1, (*PERSONS, "ada", "ada"))
    assert [ledger.spent(person) for person in (*PERSONS, "dan")] == [ONE, ONE, ONE, NOTHING]


def test_an_identical_request_gets_the_stored_bytes_and_no_debit(path: Path) -> None:
    request = request_digest({"ids": ["a", "b"], "columns": ["Male"]})
    with Ledger(path, by_person=True) as first:
        assert first.answer("moment", request, PERSONS, ONE, BUDGET, lambda: b"\x00first") == b"\x00first"
    with Ledger(path, by_person=True) as second:
        assert second.answer("moment", request, PERSONS, ONE, BUDGET, never_called) == b"\x00first"
        assert second.spent("ada") == ONE
        assert len(second.releases()) == 1


def test_a_list_of_people_is_debited_as_the_people_are(ledger: Ledger) -> None:
    """Hashed once, for `check`, `reserve` and `answer`; a known exact request is answered beyond the limit."""
    people = ledger.people([*PERSONS, "ada"])
    ledger.check(people, UNBOUNDED_COST, BUDGET, kind="audit exact x", exact=1)
    for produce in (lambda: b"first", never_called):
        args = ("audit exact x", b"1", people, UNBOUNDED_COST, BUDGET, produce)
        assert ledger.answer(*args, exact=1) == b"first"
    with pytest.raises(BudgetError, match="audited exactly 1 times"):
        ledger.answer("audit exact x", b"2", people, UNBOUNDED_COST, BUDGET, never_called, exact=1)
    assert [release.persons for release in ledger.releases()] == [len(PERSONS)]


def test_an_exact_request_that_was_not_answered_does_not_count(ledger: Ledger) -> None:
    """Nothing has left; but of two that began only one is answered."""
    kind, asked = "audit exact x", (PERSONS, UNBOUNDED_COST, BUDGET)
    first, second = (ledger.reserve(kind, name, *asked, exact=1) for name in (b"1", b"2"))
    ledger.commit_answer(second, b"second", exact=1)
    with pytest.raises(BudgetError, match="audited exactly 1 times"):
        ledger.commit_answer(first, b"first", exact=1)
    with pytest.raises(BudgetError, match="audited exactly 1 times"):
        ledger.reserve(kind, b"3", *asked, exact=1)
    assert [release.answered for release in ledger.releases()] == [False, True]


def test_the_order_of_keys_does_not_make_another_request() -> None:
    assert request_digest({"a": 1, "b": [2]}) == request_digest({"b": [2], "a": 1})
    assert request_digest({"ids": ["a", "b"]}) != request_digest({"ids": ["b", "a"]})


def test_a_request_that_was_not_answered_is_debited_again(ledger: Ledger) -> None:
    request = request_digest({})
    for _ in range(2):
        assert ledger.reserve("moment", request, PERSONS, ONE, BUDGET).answer is None
    assert ledger.spent("ada") == ONE + ONE
    ledger.commit_answer(ledger.reserve("moment", request, PERSONS, ONE, BUDGET), b"x")
    assert ledger.reserve("moment", request, PERSONS, ONE, BUDGET).answer == b"x"


def test_asking_a_thousand_times_is_cut_off_at_the_budget(ledger: Ledger) -> None:
    cost = gaussian_cost(4.0, DELTA, 100)
    answered = 0
    for attempt in range(1000):
        try:
            ask(ledger, attempt, ("ada",), cost)
            answered += 1
        except BudgetError:
            pass
    assert answered == 100
    assert ledger.spent("ada").epsilon(DELTA) <= 4.0


def test_one_exhausted_person_stops_the_release_and_nobody_is_debited(ledger: Ledger) -> None:
    ask(ledger, 1, ("ben",), gaussian_cost(4.0, DELTA))
    with pytest.raises(BudgetError, match="1 of 3 people"):
        ask(ledger, 2)
    with pytest.raises(BudgetError, match="1 of 3 people"):
        ledger.check(PERSONS, ONE, BUDGET)
    assert ledger.spent("ada") == NOTHING
    ask(ledger, 3, ("ada", "cem"))


def test_check_debits_nothing(ledger: Ledger) -> None:
    ledger.check(PERSONS, ONE, BUDGET)
    assert ledger.spent("ada") == NOTHING
    assert ledger.releases() == []


def test_adding_reordering_and_renaming_refund_nothing(ledger: Ledger) -> None:
    """Budgets hang on the person: neither other rows, nor their order, nor names of columns reach it."""
    full = gaussian_cost(4.0, DELTA)
    ask(ledger, {"columns": ["Male"], "ids": list(PERSONS)}, PERSONS, full)
    for name, persons in (
        ({"columns": ["Male"], "ids": [*PERSONS, "dan"]}, (*PERSONS, "dan")),
        ({"columns": ["Male"], "ids": list(PERSONS[::-1])}, PERSONS[::-1]),
        ({"columns": ["Sex"], "ids": list(PERSONS)}, PERSONS),
        ({"columns": ["Young"], "ids": ["cem"]}, ("cem",)),
    ):
        with pytest.raises(BudgetError):
            ask(ledger, name, persons, ONE)
    ask(ledger, "a new person alone", ("dan",), full)


def test_pure_and_gaussian_costs_follow_the_accountant(ledger: Ledger) -> None:
    """The check in SQL is that of the account's epsilon, over mixtures of both kinds of release."""
    costs = [pure_cost([0.5]), pure_cost([3.0]), pure_cost([2.0]), gaussian_cost(0.5, DELTA), gaussian_cost(3.9, DELTA)]
    for first in costs:
        for second in costs:
            person = (f"{first} {second}",)
            ask(ledger, [str(first), str(second), 1], person, first)
            if (first + second).epsilon(DELTA) <= BUDGET.epsilon:
                ask(ledger, [str(first), str(second), 2], person, second)
                assert ledger.spent(person[0]) == first + second
            else:
                with pytest.raises(BudgetError):
                    ask(ledger, [str(first), str(second), 2], person, second)
                assert ledger.spent(person[0]) == first


def test_an_unbounded_release_is_recorded_and_ends_the_bounded_budget(ledger: Ledger) -> None:
    for session in range(2):
        ledger.reserve("gradient", request_digest({"session": session}), PERSONS, UNBOUNDED_COST, BUDGET)
    assert not ledger.spent("ada").bounded
    with pytest.raises(BudgetError):
        ask(ledger, "after", ("ada",))


def test_the_debit_is_durable_before_the_answer_is_made_and_before_it_is_handed_out(path: Path) -> None:
    assert debit_comes_first(path, Ledger)


class DebitAfter(Ledger):
    """Mutant: makes the answer (and may send it) before the debit."""

    def answer(self, kind, request, persons, cost, budget, produce, *, exact=None):  # type: ignore[no-untyped-def]
        answer = produce()
        return super().answer(kind, request, persons, cost, budget, lambda: answer, exact=exact)


class NeverStored(Ledger):
    """Mutant: hands the answer out without having stored it."""

    def commit_answer(self, reservation, answer, *, exact=None):  # type: ignore[no-untyped-def]
        pass


@pytest.mark.parametrize("mutant", [DebitAfter, NeverStored])
def test_mutants_of_the_order_are_caught(path: Path, mutant: type[Ledger]) -> None:
    assert not debit_comes_first(path, mutant)


def debit_comes_first(path: Path, kind: type[Ledger]) -> bool:
    """Another connection sees the debit while the answer is made, and the answer when it is handed out."""
    with kind(path, by_person=True) as writer, Ledger(path, by_person=True) as reader:
        seen = []

        def produce() -> bytes:
            seen.append(reader.spent("ada") == ONE)
            return b"share"

        writer.answer("moment", request_digest({}), PERSONS, ONE, BUDGET, produce)
        return seen == [True] and [release.answered for release in reader.releases()] == [True]


def test_a_refusal_does_not_depend_on_anything_but_ids(tmp_path: Path) -> None:
    """Two ledgers with their own keys and the same history of ids refuse in the same words."""
    told = []
    for name in "ab":
        with Ledger(tmp_path / name, by_person=True) as opened:
            ask(opened, 1, ("ben",), gaussian_cost(4.0, DELTA))
            with pytest.raises(BudgetError) as refusal:
                ask(opened, 2)
            told.append(str(refusal.value))
    assert told[0] == told[1]


def test_the_first_draw_is_remembered(ledger: Ledger) -> None:
    assert ledger.memoise("Male", ["ada", "ben"], [0, 1]) == [0, 1]
    assert ledger.memoise("Male", ["cem", "ben", "ada"], [1, 0, 1]) == [1, 1, 0]
    assert ledger.memoise("Young", ["ada"], [1]) == [1]


def test_two_hundred_thousand_persons_take_seconds(ledger: Ledger) -> None:
    persons = tuple(f"r{index:06d}" for index in range(200_000))
    started = time.perf_counter()
    ask(ledger, 1, persons)
    ask(ledger, 2, persons)
    assert time.perf_counter() - started < 30  # 3.5 s on two idle cores
    assert ledger.balances() == [(ONE + ONE, 200_000)]


def test_the_command_prints_epsilons_and_no_id(path: Path) -> None:
    with Ledger(path, by_person=True) as opened:
        ask(opened, 1)
        ask(opened, 2, ("ada",))
        opened.reserve("gradient", request_digest({}), ["zoe"], UNBOUNDED_COST, BUDGET)
    result = CliRunner().invoke(command, [str(path), "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.output)
    assert [release["persons"] for release in printed["releases"]] == [3, 1, 1]
    assert [release["answered"] for release in printed["releases"]] == [True, True, False]
    assert printed["releases"][0]["epsilon"] == pytest.approx(1.0, rel=1e-9)
    assert printed["releases"][2]["epsilon"] is None
    assert printed["persons"] == 4
    assert printed["epsilon"] == {"max": None, "median": pytest.approx(1.0, rel=1e-9)}
    table = CliRunner().invoke(command, [str(path)])
    assert "unbounded" in table.output
    assert not any(person in table.output + result.output for person in (*PERSONS, "zoe"))


def test_the_command_does_not_make_a_ledger(path: Path) -> None:
    result = CliRunner().invoke(command, [str(path)])
    assert isinstance(result.exception, LedgerError)
    assert not path.exists()


def test_the_printed_epsilon_is_the_accountants(ledger: Ledger, path: Path) -> None:
    ask(ledger, 1)
    ask(ledger, 2)
    printed = json.loads(CliRunner().invoke(command, [str(path), "--json"]).output)
    assert printed["epsilon"]["max"] == accountant.epsilon_of(2 * ONE.rho / UNIT, DELTA)


def test_the_room_loads_neither_torch_nor_numpy_nor_opendp() -> None:
    code = (
        "import sys, secure_fair.privacy.ledger, secure_fair.privacy.policy;"
        "print([name for name in ('torch', 'numpy', 'opendp', 'crypten') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_an_interruption_right_after_the_commit_stays_what_it_is(ledger: Ledger) -> None:
    """Rolling back then would fail, and the failure hide the interruption."""
    store = ledger._store

    def interrupted() -> None:
        with store.writing():
            store.database.execute("COMMIT")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with store.writing():
        pass
