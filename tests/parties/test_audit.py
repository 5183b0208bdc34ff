"""Audits over three processes and real sockets: what a user gets; what is refused, with nothing opened then."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import chi2

from parties.messages import MAX_HELLO_BYTES
from secure_fair.privacy.accountant import UNBOUNDED, UNIT
from secure_fair.privacy.ledger import Ledger
from tests.parties.audits import ENDED, RECORDS, SETTINGS, Audits, codes, lose
from tests.parties.commands import Start

FALSE_ALARM = 1e-6


def test_noised_audits_until_the_budget_is_spent(audits: Callable[..., Audits]) -> None:
    place = audits()
    commands = place.run()
    assert codes(commands) == ENDED, [command.text for command in commands.values()]
    report = place.report()
    true = place.counts("Sex")
    scale = report["privacy"]["noise_scale"]
    errors = [
        report["counts"]["Sex"][group][cell] - count for group, cells in true.items() for cell, count in cells.items()
    ]
    assert np.abs(errors).max() < 6 * scale
    parts = [(place.counts("Sex*Age")[group], cells) for group, cells in report["counts"]["Sex*Age"].items()]
    errors += [shown - true[cell] for true, cells in parts for cell, shown in cells.items() if shown is not None]
    assert np.abs(errors).max() > 0  # those of Sex alone are all 0 in 2 of 100,000 audits, these in none of 10^12
    assert report["metrics"]["Sex"].keys() >= {"demographic_parity_difference", "equalized_odds_ratio"}
    low, high = report["intervals"]["Sex"]["demographic_parity_difference"]
    assert 0 <= low <= report["metrics"]["Sex"]["demographic_parity_difference"] <= high
    assert report["cost"]["rounds"] <= 3
    assert report["cost"]["rows"] == RECORDS
    assert place.opened() == ["audit counts"]
    assert place.debits() == [("audit", RECORDS, True)]
    assert "demographic_parity_difference" in commands["developer"].text

    while codes(commands := place.run())["developer"] == 0:
        assert place.runs < 6
    told = commands["developer"].errors[0]
    assert "600 of 600 people in the request would exceed the policy's epsilon 4" in told
    assert place.opened() == []
    assert len(place.debits()) == place.runs - 1


def test_the_noise_that_is_sent_has_the_scale_of_its_debit(audits: Callable[..., Audits]) -> None:
    """Opened counts minus the true ones, by chi-square; half the scale, or twice, would be noticed.

    Forty groups of four cells, of 50 records each, so that none is below `min_group`. The developer makes a cell's
    counts add up to its total, which takes one of forty dimensions of the noise, and no more.
    """
    place = audits(min_group="1")
    towns = [f"town {k:02d}" for k in range(40)]
    place.settings = '[attributes]\ncolumns = ["Town"]\n'
    place.categories = f"Town = {json.dumps(towns)}\n"
    cells = np.arange(8000) % 160
    place.truth = {
        "id": [f"r{i:04d}" for i in range(8000)],
        "label": (cells // 2 % 2).astype(str),
        "prediction": (cells % 2).astype(str),
        "Town": np.array(towns)[cells // 4],
    }
    place.write("predictions.csv", "id", "label", "prediction")
    place.write("attributes.csv", "id", "Town")
    commands = place.run()
    assert codes(commands) == ENDED, [command.text for command in commands.values()]
    noise = [count - 50 for counts in place.report()["counts"]["Town"].values() for count in counts.values()]
    with Ledger(place.ledger, by_person=None) as ledger:
        (release,) = ledger.releases()
    squared = 2 / (2 * release.cost.rho / UNIT)  # of the scale: a person moves two counts by one
    degrees = 39 * 4

    def follows_the_law(variance: float) -> bool:
        chance = float(chi2.cdf(np.square(noise).sum() / variance, degrees))
        return FALSE_ALARM / 2 < chance < 1 - FALSE_ALARM / 2

    assert follows_the_law(squared), f"false alarm {FALSE_ALARM}"
    assert not follows_the_law(squared / 4)
    assert not follows_the_law(squared * 4)


def test_an_exact_audit_is_exact_and_the_only_one(audits: Callable[..., Audits]) -> None:
    place = audits(audits='"exact"')
    place.policy["audit_sets"] = place.frozen()
    commands = place.run()
    assert codes(commands) == ENDED, [command.text for command in commands.values()]
    report = place.report()
    for column in ("Sex", "Sex*Age"):
        shown = report["counts"][column]
        known = [(group, cell) for group, cells in shown.items() for cell, count in cells.items() if count is not None]
        assert len(known) > 3
        assert all(shown[group][cell] == place.counts(column)[group][cell] for group, cell in known)
    assert report["privacy"]["epsilon"] is None
    ((kind, persons, answered),) = place.debits()
    assert kind.startswith("audit exact ")
    assert (persons, answered) == (RECORDS, True)
    with Ledger(place.ledger, by_person=None) as ledger:
        assert ledger.balances()[0][0].rho == UNBOUNDED

    place.truth["prediction"][0] = "1" if place.truth["prediction"][0] == "0" else "0"
    place.write("predictions.csv", "id", "label", "prediction")
    commands = place.run()
    assert "audited exactly 1 times, and the policy's max_audits is 1" in commands["developer"].errors[0]
    assert place.opened() == []


def test_a_lost_answer_is_sent_once_more(audits: Callable[..., Audits]) -> None:
    """The developer could not write its result: the same folder gets the same bytes, and nobody is debited again."""
    place = audits()
    lose(place)
    commands = place.run(out="again")
    assert codes(commands) == ENDED, [command.text for command in commands.values()]
    assert place.debits() == [("audit", RECORDS, True)]
    log = place.folder / "again" / "developer" / "disclosures.jsonl"
    first, second = (json.loads(line)["sha256"] for line in log.read_text().splitlines())
    assert first == second
    assert not (place.folder / "again" / "developer" / "audit_share.npz").exists()


def test_a_lost_answer_says_nothing_about_the_table_of_today(audits: Callable[..., Audits]) -> None:
    """The auditor has mended a value since. If the answer depended on that, it would tell it at no cost."""
    place = audits(epsilon="100.0")
    assert codes(place.run()) == ENDED
    lose(place)
    place.flip(0)
    commands = place.run(out="again")
    assert codes(commands) == ENDED, [command.text for command in commands.values()]
    assert place.debits() == [("audit", RECORDS, True)] * 2
    assert place.report("again")["privacy"]["commitment"] == place.report("run1")["privacy"]["commitment"]


def test_a_lost_answer_is_sent_to_the_same_question_only(audits: Callable[..., Audits]) -> None:
    """Else a report would state an epsilon, and intervals, that the noise in its counts was not made for."""
    place = audits(epsilon="100.0")
    place.settings = f"{SETTINGS}[privacy]\nepsilon = 1.0\n"
    lose(place)
    place.settings = f"{SETTINGS}[privacy]\nepsilon = 20.0\n"
    commands = place.run(out="again")
    assert codes(commands) == ENDED, [command.text for command in commands.values()]
    assert place.debits() == [("audit", RECORDS, True)] * 2
    report = place.report("again")
    assert report["privacy"]["epsilon"] == 20.0
    true = place.counts("Sex")
    errors = [report["counts"]["Sex"][group][cell] - true[group][cell] for group in true for cell in true[group]]
    assert np.abs(errors).max() < 7 * report["privacy"]["noise_scale"]  # epsilon 1: a scale ten times as large
    log = place.folder / "again" / "developer" / "disclosures.jsonl"
    first, second = (json.loads(line)["sha256"] for line in log.read_text().splitlines())
    assert first != second


def test_commitments_tell_no_attribute(audits: Callable[..., Audits]) -> None:
    """Audits of one record each: the commitments of people with equal attributes are unrelated, and each is paid for.

    Of one question they are equal until the auditor changes its table.
    """
    place = audits(epsilon="100.0", min_group="1")
    place.settings = '[attributes]\ncolumns = ["Sex"]\n[audit]\nclasses = ["0", "1"]\nsmallest_cell = 1\n'
    place.categories = 'Sex = ["f", "m"]\n'
    sex = place.truth["Sex"]
    first, second = np.flatnonzero(sex == sex[0])[:2]
    told = []
    for person in (first, second, first):
        place.one(person)
        assert codes(place.run()) == ENDED
        told.append(place.report()["privacy"]["commitment"])
    assert told[0] == told[2] != told[1]
    assert len(place.debits()) == 3

    place.flip(first)
    commands = place.run(audit__commitment=json.dumps(told[0]))
    assert "not the one that audit.commitment names" in commands["developer"].errors[0]
    assert place.opened() == []
    assert len(place.debits()) == 4


def test_the_developers_noise_does_not_drown_the_auditors_test(audits: Callable[..., Audits]) -> None:
    """In an exact audit; in a noised one the developer's smallest cell touches nothing that the auditor decides."""
    place = audits(audits='"exact"', min_group="10")
    place.policy["audit_sets"] = place.frozen()
    commands = place.run()
    assert codes(commands)["developer"] == 1
    told = commands["developer"].errors[0]
    assert "audit.smallest_cell is 20, and the auditor's min_group 10" in told
    assert "set audit.smallest_cell to 10 or less" in told
    assert (place.opened(), place.debits()) == ([], [])
    assert codes(place.run(audit__smallest_cell=10)) == ENDED


def test_names_of_many_groups(audits: Callable[..., Audits]) -> None:
    """More than other hellos hold are taken, and what no developer would take the auditor refuses when it starts."""
    place = audits()
    towns = [f"town {k:03d} {'x' * 180}" for k in range(200)]
    place.truth["Town"] = np.array(towns)[np.arange(RECORDS) % 200]
    place.write("attributes.csv", "id", "Sex", "Town")
    place.settings = '[attributes]\ncolumns = ["Town*Sex"]\n'
    place.categories = f'Sex = ["f", "m"]\nTown = {json.dumps(towns)}\n'
    assert 2 * len(json.dumps(towns)) > MAX_HELLO_BYTES
    commands = place.run()
    assert codes(commands) == ENDED, [command.text for command in commands.values()]
    assert list(place.report()["counts"]["Town*Sex"]) == [f"{town}*{sex}" for town in towns for sex in "fm"]

    for names in ([f"{k}{'x' * 198}" for k in range(3)], [str(k) + 195 * "\u2028" for k in range(500)]):
        place.categories = f'Sex = ["f", "m"]\nTown = {json.dumps(names)}\n'
        command = place.auditor()
        assert command.wait() == 1
        assert f"the names of the {2 * len(names)} groups take" in command.errors[-1]
        assert "shorten the policy's categories" in command.errors[-1]


def test_both_get_the_result_if_both_agree(audits: Callable[..., Audits]) -> None:
    place = audits(audit_to='"both"')
    refused = place.run()
    assert "set audit.share_result if it may have it" in refused["developer"].errors[0]
    assert (place.opened(), place.debits()) == ([], [])
    commands = place.run(audit__share_result="true", audit__smallest_cell=20)
    assert codes(commands) == ENDED, [command.text for command in commands.values()]
    shared = json.loads((place.folder / "run2" / "auditor" / "audit.json").read_text())
    report = place.report()
    smallest = 20 + 4 * report["privacy"]["noise_scale"]
    for column, groups in report["counts"].items():
        for group, cells in groups.items():
            for cell, count in cells.items():
                given = shared["counts"][column][group][cell]
                assert given in (None, count)
                assert given is None or given >= smallest
    assert any(count is None for cells in shared["counts"]["Sex*Age"].values() for count in cells.values())
    assert all(count is not None for cells in shared["counts"]["Sex"].values() for count in cells.values())


def test_simulate_as_a_user(audits: Callable[..., Audits], start: Start) -> None:
    """The launcher's own processes; exact, several classes by name, JSON on standard output.

    Cells of 33 records on average are tested under noise; against the default of 20, some would be left out by chance.
    """
    place = audits()
    names = np.array(["bird", "cat", "dog"])
    generator = np.random.default_rng(8)
    label, prediction = (names[generator.integers(0, 3, RECORDS)] for _ in range(2))
    table = place.write("animals.csv", "id", "label", "prediction", label=label, prediction=prediction)
    out = place.folder / "audit"
    arguments = ["audit", "simulate", "--predictions", str(table), "--attributes", str(place.attributes)]
    arguments += ["--columns", "Age", "--exact", "--set", "audit.smallest_cell=1"]
    command = start("simulate", [*arguments, "--json", "--out", str(out)])
    assert command.wait() == 0, command.text
    report = json.loads((out / "audit.json").read_text())
    assert json.loads(command.text[command.text.index("{") :]) == report
    assert report["task"]["classes"] == ["bird", "cat", "dog"]
    old = place.truth["Age"] == "old"
    expected = (prediction[old] == label[old]).mean()
    assert report["by_group"]["Age"]["old"]["accuracy_score"] == pytest.approx(expected, abs=1e-12)
    assert report["by_group"]["Age"]["old"]["selection_rate"]["cat"] == pytest.approx((prediction[old] == "cat").mean())
    again = start("again", [*arguments, "--out", str(out)])
    assert again.wait() == 1
    assert "exists already" in again.errors[0]
