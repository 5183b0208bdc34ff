"""What is opened is a function of the auditor's file; what else the developer receives says nothing of it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.mpc.chi_square import alike, uniform
from tests.parties import world

FALSE_ALARM = 1e-6  # of each chi-square test
COLUMNS = ("Male",)
EPOCHS = 2
LONG = ("--set", f"training.epochs={EPOCHS}")  # for enough bytes


@pytest.fixture(scope="module")
def run(shared: Path) -> Path:
    return world.simulated(shared, "orth", "gradient", COLUMNS, *LONG, name="for-real")


@pytest.fixture(scope="module")
def again(shared: Path) -> Path:
    """The same run a second time: fresh masks."""
    return world.simulated(shared, "orth", "gradient", COLUMNS, *LONG, name="again")


@pytest.fixture(scope="module")
def changed(shared: Path, data: Path) -> Path:
    """The same run with the other value for one training record in the auditor's file."""

    def make(folder: Path) -> None:
        shutil.copytree(data / "auditor", folder)
        file, name = folder / "attributes.csv", f"\n{victim(data)},"
        text = file.read_text()
        was = "yes" if f"{name}yes" in text else "no"
        file.write_text(text.replace(f"{name}{was}", f"{name}{'no' if was == 'yes' else 'yes'}"))

    file = world.once(shared, "changed-auditor", make) / "attributes.csv"
    other = ("--set", f"attributes.file={file}")
    return world.simulated(shared, "orth", "gradient", COLUMNS, *LONG, *other, name="changed")


def victim(data: Path) -> str:
    return next(row["id"] for row in rows(data) if row["split"] == "train")


def rows(data: Path) -> list[dict[str, str]]:
    with (data / "developer" / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def digests(run: Path) -> list[str]:
    return [json.loads(line)["sha256"] for line in (run / "developer" / "disclosures.jsonl").read_text().splitlines()]


def test_the_opened_gradient_is_a_function_of_the_data_alone(run: Path, again: Path) -> None:
    """The ring is exact, so two runs open the same bits, under masks that have nothing in common."""
    assert digests(run) == digests(again)
    first, second = ((each / "frames.MASKED").read_bytes() for each in (run, again))
    assert len(first) == len(second)
    numbers = [np.frombuffer(frames, dtype=np.int32) for frames in (first, second)]
    assert not (numbers[0] == numbers[1]).any()  # by chance: 6,000 times 2^-32


def test_another_attribute_opens_another_gradient(run: Path, changed: Path, data: Path) -> None:
    """From the step on that has the changed record; before it nothing differs."""
    position = sorted(row["id"] for row in rows(data)).index(victim(data))
    steps = sorted((run / "developer" / "disclosures").glob("*.npz"))
    has = [bool((np.load(step)["records"] == position).any()) for step in steps]
    assert sum(has) == EPOCHS
    before = has.index(True)
    assert digests(run)[:before] == digests(changed)[:before]
    assert all(mine != theirs for mine, theirs in zip(digests(run)[before:], digests(changed)[before:], strict=True))


@pytest.mark.parametrize("kind", ["MASKED", "OPEN"])
def test_what_the_auditor_sends_is_uniform_whatever_its_table(run: Path, changed: Path, kind: str) -> None:
    """Masked shares of its table, and its shares of results: chi-square on bytes; and both tables look alike."""
    frames = [(each / f"frames.{kind}").read_bytes() for each in (run, changed)]
    assert min(map(len, frames)) > 256 * 50  # fifty of each byte
    for each in frames:
        assert uniform(each) > FALSE_ALARM
    assert alike(*frames) > FALSE_ALARM
