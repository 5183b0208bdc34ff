"""A place for audits: tables, policy and ledger, and the three processes of an audit."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from secure_fair.cli.audit import audit
from secure_fair.privacy.ledger import Ledger
from tests.parties import world
from tests.parties.commands import Command, Start
from tests.parties.world import Deployment

RECORDS = 600
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


def lose(place: Audits) -> None:
    """An audit whose developer could not write its result, in the folder `again`."""
    in_the_way = place.folder / "again" / "developer" / "audit.json"
    in_the_way.mkdir(parents=True)
    assert codes(place.run(out="again"))["developer"] == 1
    in_the_way.rmdir()


def codes(commands: Mapping[str, Command]) -> dict[str, int | None]:
    return {role: command.process.exitcode for role, command in commands.items()}


ENDED = dict.fromkeys(world.ROLES, 0)
