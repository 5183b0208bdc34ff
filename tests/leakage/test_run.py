"""Whole runs: what `attack_run` makes of a run's folder, for each release, beside what each release promises."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from secure_fair.cli.leakage import leakage
from secure_fair.data.attributes import read_attributes
from secure_fair.errors import RunError
from secure_fair.leakage.run import attack_run
from secure_fair.sections import AdversarySettings
from tests.leakage import synthetic
from tests.leakage.made_runs import (
    COLUMNS,
    World,
    gradient_run,
    moment_run,
    response_run,
    scores,
    write_csv,
    write_predictions,
)

TRAIN, TEST = 160, 240


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("prepared")
    generator = np.random.default_rng(0)
    n = TRAIN + 10 + TEST
    bright, coin, tone = generator.integers(0, 2, n), generator.integers(0, 2, n), generator.integers(0, 3, n)
    label = np.where(generator.random(n) < 0.7, bright, generator.integers(0, 2, n))
    splits = generator.permutation(["train"] * TRAIN + ["val"] * 10 + ["test"] * TEST)
    ids = [f"r{record:04d}" for record in range(n)]
    images = root / "developer" / "images"
    images.mkdir(parents=True)
    (root / "auditor").mkdir()
    for record, name in enumerate(ids):
        level = 80 + 60 * bright[record] + 25 * generator.normal()
        pixels = level + 20 * generator.normal(size=(48, 48, 3))
        pixels[:, :, tone[record]] += 40
        pixels[10:20] += 60 * label[record]
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(images / f"{name}.jpg")
    write_csv(
        root / "developer" / "labels.csv",
        ["id", "path", "label", "split"],
        [[name, f"images/{name}.jpg", ("no", "yes")[y], s] for name, y, s in zip(ids, label, splits, strict=True)],
    )
    task = {"version": 1, "task": "Stripe", "classes": ["no", "yes"]}
    (root / "developer" / "data.json").write_text(json.dumps(task))
    rows = [
        [name, COLUMNS["Bright"][b], COLUMNS["Coin"][c], COLUMNS["Tone"][t]]
        for name, b, c, t in zip(ids, bright, coin, tone, strict=True)
    ]
    write_csv(root / "auditor" / "attributes.csv", ["id", *COLUMNS], rows)
    (root / "auditor" / "schema.json").write_text(json.dumps({"version": 1, "attributes": COLUMNS, "person": None}))
    return World(root, read_attributes(root / "auditor" / "attributes.csv", list(COLUMNS), COLUMNS))


def reasons(block: dict[str, Any]) -> dict[str, str]:
    return {line["attack"]: line["reason"] for line in block["attacks"] if "reason" in line}


@pytest.mark.parametrize("method", ["orth", "adv"])
@pytest.mark.parametrize("column", ["Bright", "Tone"])
def test_an_opened_gradient_gives_everybody_away(world: World, tmp_path: Path, method: str, column: str) -> None:
    block = attack_run(gradient_run(tmp_path, world.people((column,)), method), world.table, (column,))
    assert block["attribute_recovery"]["accuracy"] >= 0.99
    assert block["attribute_recovery"]["bound"] is None
    assert block["predictor"]["auc"] > 0.9
    assert reasons(block) == {
        "least squares on the aggregate": "each record's gradient is opened by itself",
        "matched filter": "each record's gradient is opened by itself, without noise",
    }


def test_a_gradient_gives_away_what_no_image_shows(world: World, tmp_path: Path) -> None:
    block = attack_run(gradient_run(tmp_path, world.people(("Coin",)), "adv"), world.table, ("Coin",))
    assert block["attribute_recovery"]["accuracy"] >= 0.99
    assert block["attribute_recovery"]["auc"] >= 0.99
    assert block["in_minus_out"]["low"] > 0.3  # outside the data nothing is known
    assert 0.35 < block["predictor"]["auc"] < 0.65


def test_several_attributes_are_told_apart(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an adversary that is slow: the synthetic model's features are not the backbone's, from which w's steps
    could be made.
    """
    columns = ("Bright", "Tone")
    monkeypatch.setattr(synthetic, "RATE", 0.1)
    adversary = AdversarySettings(learning_rate=0.1)
    people = world.people(columns)
    people = replace(people, settings=people.settings.model_copy(update={"adversary": adversary}))
    block = attack_run(gradient_run(tmp_path, people, "adv"), world.table, columns, settings=people.settings)
    assert list(block["by_attribute"]) == list(columns)
    for column in columns:
        assert block["by_attribute"][column]["attribute_recovery"]["accuracy"] >= 0.99
        assert block["by_attribute"][column]["predictor"]["auc"] > 0.8  # both show in the images
    assert block["attribute_recovery"] == block["by_attribute"]["Bright"]["attribute_recovery"]


@pytest.mark.parametrize("column", ["Coin", "Tone"])
def test_a_few_recognised_people_name_all_others(world: World, tmp_path: Path, column: str) -> None:
    """Also for a coin, whose groups in the two task classes no direction ties together."""
    block = attack_run(gradient_run(tmp_path, world.people((column,)), "orth"), world.table, (column,))
    named = scores(block, "sign and rank of per-record gradients, groups named by 5 recognised people each")
    assert named["accuracy"] >= 0.99


def test_the_table_scores_and_never_helps(world: World, tmp_path: Path) -> None:
    """With coins drawn afresh in place of the truth, what the log tells is as good as chance."""
    run = gradient_run(tmp_path, world.people(("Coin",)), "adv")
    drawn = np.random.default_rng(3).integers(0, 2, len(world.table.ids))
    other = replace(world.table, codes={**world.table.codes, "Coin": drawn})
    block = attack_run(run, other, ("Coin",))
    assert abs(block["attribute_recovery"]["accuracy"] - 0.5) < 4.5 * 0.5 / math.sqrt(TRAIN)


@pytest.mark.parametrize("column", ["Bright", "Coin", "Tone"])
def test_a_moment_at_epsilon_1_says_no_more_of_people_inside(world: World, tmp_path: Path, column: str) -> None:
    block = attack_run(moment_run(tmp_path, world.people((column,))), world.table, (column,))
    difference, bound = block["in_minus_out"], block["attribute_recovery"]["bound"]
    assert 0 < bound < 0.2
    error = (difference["high"] - difference["low"]) / (2 * 1.96)
    assert difference["difference"] < bound + 4.5 * error
    predictor = scores(block, "soft attributes")["in_minus_out"]
    assert predictor["low"] <= predictor["difference"] <= difference["difference"] + 4.5 * error  # the weaker attack
    assert reasons(block)["sign and rank of per-record gradients"] == "no value of a single record is opened"
    # 97 numbers for some 80 people of a class: least squares would be exact without the noise
    if column == "Coin":
        assert abs(scores(block, "least squares on the aggregate")["accuracy"] - 0.5) < bound + 4.5 * 0.5 / math.sqrt(
            TRAIN
        )


def test_without_protection_the_same_attacks_read_the_moment(world: World, tmp_path: Path) -> None:
    """At an epsilon of 5,000 the noise is small: the attacks above fail because of the noise, not by themselves."""
    people = world.people(("Coin",), epsilon=5000.0)
    block = attack_run(moment_run(tmp_path, people), world.table, ("Coin",))
    assert block["attribute_recovery"]["accuracy"] > 0.9
    assert block["in_minus_out"]["low"] > 0.3
    assert block["attribute_recovery"]["bound"] == pytest.approx(1.0)


def test_people_with_two_records_each_are_weighted(world: World, tmp_path: Path) -> None:
    """The moment holds every record with half its weight; the attack and its noise are scaled to that."""
    people = world.people(("Coin",), epsilon=5000.0)
    train = people.of_split("train")
    persons = [*people.persons]
    for number, position in enumerate(train):
        persons[position] = f"person {number // 2}"
    table = replace(world.table, persons=tuple(persons))
    run = moment_run(tmp_path, people, tuple(persons[position] for position in train))
    assert attack_run(run, table, ("Coin",))["attribute_recovery"]["accuracy"] > 0.9


def test_randomized_response_gives_what_it_says(world: World, tmp_path: Path) -> None:
    epsilon = 1.5
    block = attack_run(response_run(tmp_path, world.people(("Coin",), epsilon)), world.table, ("Coin",))
    truthful = 1 / (1 + math.exp(-epsilon))  # the best guess at a coin is the answer itself
    assert block["attribute_recovery"]["accuracy"] == pytest.approx(truthful, abs=4.5 * 0.5 / math.sqrt(TRAIN))
    assert block["attribute_recovery"]["bound"] == pytest.approx(math.tanh(epsilon / 2))
    assert set(reasons(block)) == {"sign and rank of per-record gradients", "least squares on the aggregate"}


def test_the_floor_and_the_prior_need_a_run_without_attributes(world: World, tmp_path: Path) -> None:
    people = world.people(("Bright",))
    run = moment_run(tmp_path / "fair", people)
    write_predictions(tmp_path / "erm", people, 1.5, seed=2)  # the same model, had it not been made fair
    block = attack_run(run, world.table, ("Bright",), tmp_path / "erm")
    assert block["floor_auc"] > 0.95
    assert block["within_classes"]["floor_auc"] > 0.95
    assert block["predictor"]["prior_auc"] >= scores(block, "prior: score without attributes")["auc"] > 0.7
    without = attack_run(run, world.table, ("Bright",))
    assert without["floor_auc"] is None
    assert "prior: score without attributes" not in [line["attack"] for line in without["attacks"]]


def test_what_is_missing_is_named(world: World, tmp_path: Path) -> None:
    people = world.people(("Coin",))
    with pytest.raises(RunError, match="only a secure run has one"):
        attack_run(tmp_path, world.table, ("Coin",))
    reusing = tmp_path / "reusing"
    reusing.mkdir()
    (reusing / "summary.json").write_text(json.dumps({"privacy": {"reused": "runs/first", "epsilon": 2.0}}))
    with pytest.raises(RunError, match="reusing: this run reused the release of runs/first; attack that run"):
        attack_run(reusing, world.table, ("Coin",), settings=people.settings)
    run = moment_run(tmp_path / "run", people)
    (run / "summary.json").rename(run / "elsewhere.json")
    with pytest.raises(RunError, match=r"summary\.json: missing"):
        attack_run(run, world.table, ("Coin",))
    (run / "developer" / "soft_attributes.npz").unlink()
    with pytest.raises(RunError, match=r"soft_attributes\.npz: missing"):
        attack_run(run, world.table, ("Coin",), settings=people.settings)
    other = tmp_path / "other"
    moment_run(other, people)
    file = other / "developer" / "predictions.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(RunError, match="not about the test records of this run"):
        attack_run(other, world.table, ("Coin",))


def test_the_command_prints_tables_and_json(world: World, tmp_path: Path) -> None:
    run = moment_run(tmp_path / "run", world.people(("Bright",)))
    write_predictions(tmp_path / "erm", world.people(("Bright",)), 1.5, seed=2)
    arguments = [str(run), "--reference", str(tmp_path / "erm")]
    told = CliRunner().invoke(leakage, arguments, catch_exceptions=False).output
    assert "matched filter" in told
    assert "accuracy in the data minus outside" in told
    assert "by the guarantee" in told
    printed = json.loads(CliRunner().invoke(leakage, [*arguments, "--json"], catch_exceptions=False).output)
    assert printed == json.loads(json.dumps(attack_run(run, world.table, ("Bright",), tmp_path / "erm")))
