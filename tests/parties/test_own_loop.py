"""FairnessTerm in a loop that is not ours, with real parties."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from parties.own_plan import TrainingPlan
from secure_fair.api import write_attributes
from secure_fair.errors import SettingsError
from secure_fair.mpc.engine.sharing import FRACTION_BITS
from secure_fair.privacy import disclosures
from tests.parties import own_loops
from tests.parties.own_loops import BATCH, EPOCHS, RECORDS

STEPS = EPOCHS * -(-RECORDS // BATCH)


def test_the_secure_term_is_the_plaintext_one(tmp_path: Path) -> None:
    """To fixed-point precision: entries of H are rounded to 2^-16 and sums of at most 16 of them are opened exactly."""
    found = own_loops.run("equal", tmp_path)
    unit = 2.0**-FRACTION_BITS
    assert found["steps"] == STEPS
    assert found["gradient"] < 3 * 2 * BATCH * unit  # weight 3; a sum of n roundings, times 2/n^2 or less, both ways
    assert found["value"] < 3 * 2 * BATCH * unit
    opened = list(disclosures.read(tmp_path / "run" / "developer"))
    assert [value.step for value in opened] == list(range(STEPS))
    cost = json.loads((tmp_path / "run" / "developer" / "cost.json").read_text())
    assert cost["steps"] == STEPS
    assert cost["bytes_sent"] > 0
    assert '"event": "run ended"' in (tmp_path / "run" / "auditor" / "log.jsonl").read_text().splitlines()[-1]


@pytest.mark.parametrize("release", ["moment", "randomized-response"])
def test_private_releases_are_made_once(tmp_path: Path, release: str) -> None:
    assert own_loops.run("private", tmp_path, release) == {"finite": True, "some": True}
    (opened,) = disclosures.read(tmp_path / "run" / "developer")
    assert opened.release == release
    assert opened.epsilon_spent == pytest.approx(2.0, abs=1e-6)


def test_a_loop_may_stop_early(tmp_path: Path) -> None:
    own_loops.run("early", tmp_path)
    log = (tmp_path / "run" / "auditor" / "log.jsonl").read_text()
    assert f"the developer's loop ended after step 2 of {STEPS}" in log
    assert len(list(disclosures.read(tmp_path / "run" / "developer"))) == 2
    assert not (tmp_path / "run" / "developer" / "cost.json").exists()
    _nobody_is_left(tmp_path)


def test_batches_that_were_not_planned_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    first, last = own_loops.run("wrong", tmp_path)["told"]
    assert f"step 1 has {BATCH - 1} records where {BATCH} were planned" in first
    assert f"all {STEPS} planned steps are done" in last


def test_an_error_of_the_loops_own_comes_out_as_it_is(tmp_path: Path) -> None:
    assert own_loops.run("broken", tmp_path) == {"error": "KeyError('mine')", "cause": "None"}
    for log in tmp_path.glob("run/auditor/log*"):
        assert "mine" not in log.read_text()
    _nobody_is_left(tmp_path)


def _nobody_is_left(folder: Path) -> None:
    for file in folder.glob("run/*.pid"):
        assert not psutil.pid_exists(int(file.read_text()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["a", "a"]}, "named twice"),
        ({"other_ids": ["b"]}, "named twice"),
        ({"labels": torch.tensor([0, 1, 1])}, "for 2 ids"),
        ({"labels": torch.tensor([0, 2])}, "labels must be 0 to 1"),
        ({"features": np.zeros((3, 4))}, "one row an id"),
        ({"epochs": 0}, "at least 1"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(change: dict[str, object], message: str) -> None:
    plan = {"ids": ["a", "b"], "labels": torch.tensor([0, 1]), "classes": 2, "width": 3, "batch_size": 2, "epochs": 1}
    with pytest.raises(SettingsError, match=message):
        TrainingPlan(**(plan | change))  # type: ignore[arg-type]


def test_sizes_of_a_plan() -> None:
    plan = TrainingPlan([str(n) for n in range(7)], torch.zeros(7, dtype=torch.long), 2, 3, batch_size=3, epochs=2)
    assert plan.sizes == [3, 3, 1, 3, 3, 1]


def test_attributes_outside_of_their_categories_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="group: needs one of its categories"):
        write_attributes(tmp_path / "out", ["1"], {"group": ["z"]}, {"group": ["a", "b"]})
    assert not (tmp_path / "out").exists()
