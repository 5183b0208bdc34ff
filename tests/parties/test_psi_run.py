"""Runs of three parties whose lists of records differ, from the command line."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secure_fair.data.labels import LabelTable, read_labels
from tests.parties import commands, world
from tests.parties.commands import Command, Start
from tests.parties.world import Deployment

pytest.importorskip("private_set_intersection", reason="the extra psi is not installed")

EPOCHS = 6
PSI: dict[str, Any] = {"attributes__alignment": "psi"}


class Lists:
    """The prepared faces, of which the developer lacks some and the auditor lacks others, validation and test too."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._data, self._folder = data, folder
        self.labels: LabelTable = read_labels(data / "developer")
        self.train = [record for record, split in zip(*self._columns, strict=True) if split == "train"]
        self.others = {record for record, split in zip(*self._columns, strict=True) if split != "train"}
        self.developers, self.auditors = set(self.train[::5]), set(self.train[1::7]) - set(self.train[::5])
        self.common = sorted(set(self.train) - self.developers - self.auditors)

    @property
    def _columns(self) -> tuple[tuple[str, ...], list[str]]:
        return self.labels.ids, self.labels.splits.tolist()

    def settings(self, name: str, *, without: Collection[str], table_without: Collection[str]) -> Path:
        """A settings file for both parties, over copies of their tables without these records."""
        prepared = self._folder / name
        for role, table, left in (
            ("developer", "labels.csv", without),
            ("auditor", "attributes.csv", table_without),
        ):
            (prepared / role).mkdir(parents=True)
            for file in (self._data / role).iterdir():
                (prepared / role / file.name).symlink_to(file)
            own = prepared / role / table
            rows = own.read_text().splitlines(keepends=True)
            own.unlink()
            own.write_text("".join(row for row in rows if row.split(",")[0] not in left))
        return world.write_settings(self._folder / f"{name}.toml", prepared)

    def different(self) -> Path:
        """Each lacks what only the other has; the auditor has no record of validation and test."""
        return self.settings("different", without=self.auditors, table_without=self.developers | self.others)


@pytest.fixture
def lists(data: Path, tmp_path: Path) -> Lists:
    return Lists(data, tmp_path)


class Parties:
    """Three processes at a time, with the folders of one run."""

    def __init__(self, start: Start, deployment: Deployment, folder: Path) -> None:
        self._start, self._deployment, self.out = start, deployment, folder / "run"
        self._policy = folder / "policy.toml"
        self._attempt = 0

    def begin(
        self,
        config: Path,
        release: str,
        *own: str,
        policy: dict[str, Any] | None = None,
        auditors: Path | None = None,
        **more: Any,
    ) -> Command:
        """Start all three; the developer is handed back. auditors: its own settings file."""
        self._attempt += 1
        world.write_policy(self._policy, [release], **({"min_intersection": 50} | (policy or {})))
        arguments: dict[str, tuple[str, ...]] = {} if release == "randomized-response" else {"dealer": ()}
        arguments |= {
            "auditor": ("--policy", str(self._policy)),
            "developer": ("--method", "orth", "--release", release, *own),
        }
        self.commands = {
            role: self._start(
                f"{self.out.parent.name}-{role}-{self._attempt}",
                self._deployment.party(
                    role,
                    auditors or config if role == "auditor" else config,
                    self.out / role,
                    *line,
                    training__checkpoint_steps=2,
                    **more,
                ),
                {"FRAMES": str(self.out.parent / f"{role}.frames")},
            )
            for role, line in arguments.items()
        }
        return self.commands["developer"]

    def finish(self, config: Path, release: str, *own: str, **more: Any) -> None:
        self.begin(config, release, *own, **more)
        for command in self.commands.values():
            assert command.wait() == 0, command.text

    def model(self) -> list[bytes]:
        files = ("head.safetensors", "adapter/adapter_model.safetensors", "predictions.csv")
        return [(self.out / "developer" / file).read_bytes() for file in files]

    def events(self, event: str) -> list[dict[str, Any]]:
        lines = (self.out / "auditor" / "log.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["event"] == event]

    def frames(self, direction: str) -> list[tuple[str, int]]:
        """(kind, bytes) of the developer's frames."""
        lines = [line.split() for line in (self.out.parent / "developer.frames").read_text().splitlines()]
        return [(kind, int(size)) for _, way, kind, size in lines if way == direction]


@pytest.fixture
def parties(start: Start, deployment: Deployment, tmp_path: Path) -> Parties:
    (tmp_path / "psi").mkdir()
    return Parties(start, deployment, tmp_path / "psi")


def test_the_result_is_that_of_a_run_on_the_common_records(
    parties: Parties, lists: Lists, start: Start, identities: Deployment, tmp_path: Path
) -> None:
    parties.finish(lists.different(), "gradient", **PSI)
    only = lists.developers | lists.auditors
    (tmp_path / "list").mkdir()
    same = Parties(start, identities.elsewhere(), tmp_path / "list")
    same.finish(lists.settings("common", without=only, table_without=only), "gradient")
    assert parties.model() == same.model()  # to the bit, and of all validation and test images

    n, m = len(lists.train) - len(lists.auditors), len(lists.train) - len(lists.developers)
    (event,) = parties.events("records intersected")
    assert (event["developer"], event["auditor"], event["common"]) == (n, m, len(lists.common))
    assert parties.frames("sent")[1:4] == [("ALIGN", 2 + 35 * n), ("ALIGN", 35 * m), ("HELLO", 32)]
    assert parties.frames("received")[1:4] == [("ALIGN", 2 + 35 * m), ("ALIGN", 35 * n), ("HELLO", 32)]
    assert ("RECORDS", 4 * len(lists.common)) not in parties.frames("sent")
    kept = json.loads((parties.out / "developer" / "common_ids.json").read_text())
    assert kept == lists.common
    log = (parties.out / "auditor" / "log.jsonl").read_text()
    assert not [record for record in lists.labels.ids if record in log]


@pytest.mark.parametrize("release", ["moment", "randomized-response"])
def test_private_releases_are_about_the_common_records(parties: Parties, lists: Lists, release: str) -> None:
    config = lists.different()
    parties.finish(config, release, **PSI)
    with np.load(parties.out / "developer" / "soft_attributes.npz", allow_pickle=False) as arrays:
        assert arrays["ids"][arrays["split"] == "train"].tolist() == lists.common
    with (parties.out / "developer" / "predictions.csv").open(newline="") as stream:
        assert {row["id"] for row in csv.DictReader(stream)} == lists.others
    # Another training on the same release needs no auditor, and is about the same records.
    again = parties.out.with_name("again")
    arguments = ["--method", "orth", "--release", release, "--reuse", str(parties.out / "developer")]
    commands.done(["party", "developer", "-c", str(config), "--out", str(again), *arguments], again.with_suffix(".log"))
    assert json.loads((again / "common_ids.json").read_text()) == lists.common


def test_a_resumed_run_is_about_the_records_of_the_first_attempt(
    parties: Parties, lists: Lists, start: Start, identities: Deployment, tmp_path: Path
) -> None:
    """Meanwhile the auditor has come to know all of them."""
    config = lists.different()
    developer = parties.begin(config, "gradient", training__epochs=EPOCHS, **PSI)
    checkpoints = parties.out / "developer" / "checkpoint"
    commands.until(lambda: len(list(checkpoints.glob("*.pt"))) == 2)
    assert developer.process.pid is not None
    developer.process.kill()
    for role in ("auditor", "dealer"):
        assert parties.commands[role].wait() == 1, parties.commands[role].text
    assert developer.wait() == -signal.SIGKILL, "it was done before it was killed"

    table = tmp_path / "different" / "auditor" / "attributes.csv"
    missing = lists.settings("more", without=lists.auditors, table_without=())
    table.write_bytes((tmp_path / "more" / "auditor" / "attributes.csv").read_bytes())
    parties.finish(config, "gradient", "--resume", training__epochs=EPOCHS, **PSI)
    assert missing.exists()
    assert re.search(r"resuming after step \d+", parties.commands["developer"].text)
    (tmp_path / "whole").mkdir()
    whole = Parties(start, identities.elsewhere(), tmp_path / "whole")
    only = lists.developers | lists.auditors
    own = lists.settings("common", without=only, table_without=only)
    whole.finish(own, "gradient", training__epochs=EPOCHS)
    assert parties.model() == whole.model()

    # And if it has come to know fewer, the run does not go on with those.
    (parties.out / "developer" / "cost.json").unlink()
    rows = table.read_text().splitlines(keepends=True)
    table.write_text("".join(row for row in rows if row.split(",")[0] != lists.common[0]))
    developer = parties.begin(config, "gradient", "--resume", training__epochs=EPOCHS, **PSI)
    assert developer.wait() == 1
    count = len(lists.common)
    (error,) = developer.errors
    assert f"begun on {count} common records, of which the auditor now has {count - 1}" in error
    assert parties.commands["auditor"].wait() == 1
    parties.commands["dealer"].kill()


def test_too_few_common_records_are_refused_without_their_number(parties: Parties, lists: Lists) -> None:
    least = len(lists.common) + 1
    developer = parties.begin(lists.different(), "gradient", policy={"min_intersection": least}, **PSI)
    assert developer.wait() == 1
    (error,) = developer.errors
    assert f"fewer than {least} training records" in error
    assert str(len(lists.common)) not in developer.text
    assert [size for kind, size in parties.frames("received") if kind == "ALIGN"] == [
        2 + 35 * (len(lists.train) - len(lists.developers))
    ]
    assert not (parties.out / "developer" / "common_ids.json").exists()
    assert parties.commands["auditor"].wait() == 1
    (event,) = parties.events("records intersected")
    assert event["common"] == len(lists.common)
    parties.commands["dealer"].kill()


def test_both_must_want_it(parties: Parties, lists: Lists, tmp_path: Path) -> None:
    config = lists.different()
    text = config.read_text()
    config.write_text(text.replace("columns =", 'alignment = "psi"\ncolumns ='))
    plain = tmp_path / "plain.toml"
    plain.write_text(text)
    developer = parties.begin(config, "gradient", auditors=plain)
    assert developer.wait() == 1
    assert "different settings" in developer.text
    assert "ALIGN" not in {kind for kind, _ in parties.frames("sent")}
    parties.commands["dealer"].kill()


def test_a_simulation_has_nothing_to_intersect(lists: Lists, tmp_path: Path) -> None:
    config = lists.different()
    arguments = ["simulate", "-c", str(config), "--method", "orth", "--release", "moment", "--out", str(tmp_path / "s")]
    command = Command.start([*arguments, "--set", "attributes.alignment=psi"], tmp_path / "simulate.log")
    assert command.wait() == 1
    assert "a simulation holds both lists" in command.text
    assert not (tmp_path / "s").exists()


def test_an_audit_is_of_agreed_records(tmp_path: Path) -> None:
    lines = [["developer"], ["auditor", "--policy", str(world.write_policy(tmp_path / "policy.toml", ["audit"]))]]
    for line in lines:
        arguments = ["audit", *line, "-c", os.devnull, "--out", str(tmp_path), "--set", "attributes.alignment=psi"]
        command = Command.start(arguments, tmp_path / "audit.log")
        assert command.wait() == 1
        assert "an audit is of records that both tables have" in command.text
