"""Audits over three processes and real sockets: what a user gets; what is refused, with nothing opened then."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import chi2

from parties.audit_messages import AuditHello
from parties.links import ENDED as TOLD_DEALER
from parties.messages import MAX_HELLO_BYTES, PROTOCOL_VERSION
from secure_fair import settings
from secure_fair.cli.audit import audit
from secure_fair.errors import PeerRefusedError
from secure_fair.mpc.kinds import Kind
from secure_fair.privacy.accountant import UNBOUNDED, UNIT
from secure_fair.privacy.ledger import Ledger
from tests.parties import world
from tests.parties.commands import Command
from tests.parties.conftest import Start
from tests.parties.world import Deployment

RECORDS = 600
FALSE_ALARM = 1e-6
SETTINGS = '[attributes]\ncolumns = ["Sex", "Sex*Age"]\n'
CATEGORIES = 'Sex = ["f", "m"]\nAge = ["young", "old"]\n'


@dataclass
class Audits:
    """A place for audits: tables, policy, ledger; `run` starts three processes and waits for them."""

    folder: Path
    start: Start
    deployment: Deployment
    policy: dict[str, Any] = field(default_factory=dict)
    runs: int = 0
    settings: str = SETTINGS
    categories: str = CATEGORIES

    def __post_init__(self) -> None:
        generator = np.random.default_rng(4)
        self.truth: dict[str, Any] = {
            "id": [f"r{i:04d}" for i in generator.permutation(RECORDS)],
            "label": generator.integers(0, 2, RECORDS).astype(str),
            "prediction": generator.integers(0, 2, RECORDS).astype(str),
            "Sex": np.array(["f", "m"])[generator.integers(0, 2, RECORDS)],
            "Age": np.array(["young", "old"])[generator.integers(0, 2, RECORDS)],
        }
        self.predictions = self.write("predictions.csv", "id", "label", "prediction")
        self.attributes = self.write("attributes.csv", "id", "Sex", "Age")

    def write(self, name: str, *columns: str, **changes: Any) -> Path:
        """A table of some columns, with other values where `changes` says so."""
        file = self.folder / name
        with file.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(columns)
            values = {**self.truth, **changes}
            writer.writerows(zip(*(values[column] for column in columns), strict=True))
        return file

    def one(self, person: int) -> None:
        """The developer's table has this record only."""
        self.predictions.write_text(f"id,label,prediction\n{self.truth['id'][person]},1,1\n")

    def flip(self, person: int) -> None:
        """The auditor changes one value of its table."""
        self.truth["Sex"][person] = "f" if self.truth["Sex"][person] == "m" else "m"
        self.write("attributes.csv", "id", "Sex", "Age")

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.sqlite"

    def frozen(self) -> str:
        """As an auditor writes it into its policy."""
        printed = CliRunner().invoke(audit, ["freeze", str(self.attributes)])
        assert printed.exit_code == 0, printed.output
        return f'["{printed.output.strip()}"]'

    def run(self, *, out: str | None = None, wait: int = 30, **changed: Any) -> dict[str, Command]:
        """The three parties, ended; `changed` are the developer's settings, with a double underscore for the dot.

        wait: seconds that they wait for each other to start.
        """
        self.runs += 1
        here = self.folder / (out or f"run{self.runs}")
        config, policy = self.files()
        own = {
            "dealer": ((), dict[str, Any]()),
            "auditor": (
                ("--policy", str(policy), "--ledger", str(self.ledger)),
                {"attributes__file": str(self.attributes)},
            ),
            "developer": ((), {"audit__predictions": str(self.predictions), **changed}),
        }
        place = self.deployment.elsewhere()
        commands = {}
        for role, (options, keys) in own.items():
            arguments = place.party(role, config, here / role, *options, network__start_timeout_seconds=wait, **keys)
            if role != "dealer":
                arguments[0] = "audit"
            commands[role] = self.start(f"{role}{self.runs}", arguments)
        for command in commands.values():
            command.wait()
        return commands

    def auditor(self) -> Command:
        """An auditor alone, at the deployment's own address."""
        config, policy = self.files()
        rules = ("--policy", str(policy), "--ledger", str(self.ledger))
        file = {"attributes__file": str(self.attributes)}
        arguments = self.deployment.party("auditor", config, self.folder / "auditor", *rules, **file)
        return self.start("auditor", ["audit", *arguments[1:]])

    def files(self) -> tuple[Path, Path]:
        """Settings, the same for all, and the auditor's policy."""
        config = self.folder / "settings.toml"
        config.write_text(self.settings)
        rules = {"releases": '["audit"]', "epsilon": "4.0", "delta": "1e-5", "min_group": "20", **self.policy}
        policy = self.folder / "policy.toml"
        rows = "".join(f"{key} = {value}\n" for key, value in rules.items())
        policy.write_text(f"[policy]\n{rows}[policy.categories]\n{self.categories}")
        return config, policy

    def report(self, run: int | str | None = None) -> dict[str, Any]:
        name = run if isinstance(run, str) else f"run{run or self.runs}"
        report: dict[str, Any] = json.loads((self.folder / name / "developer" / "audit.json").read_text())
        return report

    def opened(self, run: int | str | None = None) -> list[str]:
        """What the developer's log says was opened to it."""
        name = run if isinstance(run, str) else f"run{run or self.runs}"
        file = self.folder / name / "developer" / "disclosures.jsonl"
        return [json.loads(line)["name"] for line in file.read_text().splitlines()] if file.exists() else []

    def debits(self) -> list[tuple[str, int, bool]]:
        if not self.ledger.exists():
            return []
        with Ledger(self.ledger, by_person=None) as ledger:
            return [(release.kind, release.persons, release.answered) for release in ledger.releases()]

    def counts(self, column: str) -> dict[str, dict[str, int]]:
        """The true ones."""
        parts = [self.truth[part] for part in column.split("*")]
        groups = ["*".join(values) for values in zip(*parts, strict=True)]
        found: dict[str, dict[str, int]] = {}
        for group, y, p in zip(groups, self.truth["label"], self.truth["prediction"], strict=True):
            cell = f"label {y}, prediction {p}"
            found.setdefault(group, {}).setdefault(cell, 0)
            found[group][cell] += 1
        return found


@pytest.fixture
def audits(tmp_path: Path, start: Start, deployment: Deployment) -> Callable[..., Audits]:
    return lambda **policy: Audits(tmp_path, start, deployment, policy)


def lose(place: Audits) -> None:
    """An audit whose developer could not write its result, in the folder `again`."""
    in_the_way = place.folder / "again" / "developer" / "audit.json"
    in_the_way.mkdir(parents=True)
    assert codes(place.run(out="again"))["developer"] == 1
    in_the_way.rmdir()


def codes(commands: Mapping[str, Command]) -> dict[str, int | None]:
    return {role: command.process.exitcode for role, command in commands.items()}


ENDED = dict.fromkeys(world.ROLES, 0)


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
    assert 0 < np.abs(errors).max() < 6 * scale
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


def test_exact_counts_of_other_records_are_refused(audits: Callable[..., Audits]) -> None:
    place = audits(audits='"exact"', audit_sets='["sha256:' + 64 * "0" + '"]')
    commands = place.run()
    assert "exact audits are for frozen sets of records" in commands["developer"].errors[0]
    assert (place.opened(), place.debits()) == ([], [])


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


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown ids": ({}, "auditor", "1 of 600 record ids are not in the auditor's table"),
    "few records": ({}, "auditor", "no count of 19 records can reach the auditor's min_group, 20"),
    "other settings": ({"privacy__epsilon": 1.0}, "auditor", "different settings"),
    "other categories": (
        {"audit__categories": '{ Sex = ["f", "m", "x"] }'},
        "developer",
        "the auditor's categories of Sex are f, m, and not those of audit.categories",
    ),
    "labels outside": ({"audit__classes": '["1", "2"]'}, "developer", "label '0' is not one of 1, 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_before_anything_is_opened(audits: Callable[..., Audits], case: str) -> None:
    changed, role, told = BAD[case]
    place = audits()
    if case == "few records":
        place.predictions.write_text("".join(place.predictions.read_text().splitlines(keepends=True)[:20]))
    if case == "unknown ids":
        place.write("predictions.csv", "id", "label", "prediction", id=["stranger", *place.truth["id"][1:]])
    # A table is read before anybody is asked, so the others wait for a developer that does not come.
    commands = place.run(wait=6, **changed)
    assert codes(commands)["developer"] == 1
    assert told in commands[role].errors[0]
    if case == "unknown ids":  # the dealer hears that, and nothing of ids
        assert TOLD_DEALER in commands["dealer"].errors[0]
        assert "600" not in commands["dealer"].text
    assert (place.opened(), place.debits()) == ([], [])


def test_an_attribute_that_is_not_in_the_table(audits: Callable[..., Audits]) -> None:
    place = audits()
    place.write("attributes.csv", "id", "Sex")
    commands = place.run(wait=6)
    assert "no column 'Age'" in commands["auditor"].errors[0]
    assert (place.opened(), place.debits()) == ([], [])


def test_refusals_say_the_same_whatever_the_attributes(audits: Callable[..., Audits]) -> None:
    """Two tables that differ in every attribute: equal words, equal debits."""
    place = audits(epsilon="1.0")
    told = []
    for swapped in (False, True):
        if swapped:
            other = {"f": "m", "m": "f", "young": "old", "old": "young"}
            changes = {name: [other[value] for value in place.truth[name]] for name in ("Sex", "Age")}
            place.write("attributes.csv", "id", "Sex", "Age", **changes)
        commands = place.run()
        told.append((commands["developer"].errors, commands["auditor"].errors, place.opened(), place.debits()))
    assert "would exceed the policy's epsilon 1" in told[0][0][0]
    assert told[0] == told[1]


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


HELLO = AuditHello(PROTOCOL_VERSION, "00", "", RECORDS, classes=2, bins=0, bits=0, predictions="", earlier="")
ASKED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "one class": ({"classes": 1}, {}, "an audit of 1 classes"),
    "an odd number of bins": ({"bins": 3}, {}, "an even number of bins"),
    "no record": ({"records": 0}, {}, "numbers make no sense"),
    "more records than there are": ({"records": RECORDS + 1}, {}, "601 records are more than the auditor's table has"),
    "records that fill the memory": ({"records": 2**26}, {}, "67108864 records are more than the auditor's table has"),
    "another protocol": ({"protocol": 99}, {}, "speaks protocol 99"),
    "other settings": ({"settings": "x"}, {}, "different settings"),
    "a policy without audits": ({}, {"releases": '["moment"]'}, "release 'audit' is not allowed"),
    "another developer": ({}, {"developers": f'["sha256:{64 * "0"}"]'}, "is not in the auditor's policy"),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_a_developer_must_not_ask(audits: Callable[..., Audits], case: str) -> None:
    """Said to the developer before the auditor has answered anything."""
    changes, policy, told = ASKED[case]
    place = audits(**policy)
    command = place.auditor()
    asked = replace(HELLO, settings=settings.load(place.folder / "settings.toml").audit_digest())
    with place.deployment.connect("auditor") as connection:
        connection.send(Kind.HELLO, replace(asked, **changes).encode())
        with pytest.raises(PeerRefusedError, match=told):
            connection.receive(Kind.HELLO)
    assert command.wait() == 1
    assert place.debits() == []
