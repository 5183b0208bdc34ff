"""Release `predictor`, from end to end: the auditor sends the sensitive LoRA with its head, the developer uses it."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from parties.adapters import pack, predictor_term, unpack
from secure_fair.errors import ProtocolError, RunError
from secure_fair.model.classifier import build_classifier
from secure_fair.settings import Settings, load, parse
from secure_fair.training.sensitive import soft_attributes
from tests.parties import commands, world
from tests.parties.test_adapter import COLUMNS, made, prepared, summary
from tests.parties.test_simulate import steps

DEMO = ("--set", "model.weights=demo")  # random weights would be another backbone at the auditor's


@pytest.fixture(name="run")
def _run(shared: Path) -> Path:
    return made(shared, "simulate", "orth", "--release", "predictor", *DEMO, name="-predictor")


def settings_of(run: Path) -> Settings:
    return parse(Settings, summary(run)["config"], "summary.json")


def stored(run: Path) -> dict[str, Any]:
    with np.load(run / "developer" / "soft_attributes.npz") as arrays:
        return dict(arrays)


def _in_one_process(run: Path, out: Path) -> dict[str, np.ndarray]:
    """The sensitive LoRA, what it says of the developer's images, and the training on that; nothing is sent."""
    from parties.soft_attributes import SoftTable, reused_term
    from secure_fair.data.attributes import read_schema
    from secure_fair.data.own import read_own
    from secure_fair.fairness import methods
    from secure_fair.training.loop import train
    from secure_fair.training.sensitive import of_own
    from secure_fair.training.setup import developer_side

    settings = settings_of(run)
    assert settings.attributes.file is not None
    folder = settings.attributes.file.parent
    model, splits = developer_side(settings)
    schema = read_schema(folder / "schema.json")
    own = read_own(folder, COLUMNS, schema.attributes, schema.person, splits.train.transform)
    sensitive = of_own(settings, own)
    images = {"train": splits.train, "val": splits.val, "test": splits.test}
    rows = {name: soft_attributes(settings, sensitive, part, (2, 3)) for name, part in images.items()}
    table = SoftTable({name: part.ids for name, part in images.items()}, rows, (2, 3))
    method = methods.get("orth")
    weight = method.weight(settings, "predictor")
    term = reused_term(settings, method, weight, table, model, splits.train)
    train(model, term, weight, splits, settings, out / "developer", lambda *_: None)
    return rows


def test_the_run_is_the_same_computation_in_one_process(run: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=commands.server()) as pool:
        rows = pool.submit(_in_one_process, run, tmp_path).result(commands.PATIENCE)
    found = stored(run)
    for split, own in rows.items():
        assert np.array_equal(found["soft"][found["split"] == split], own), split
    losses = [[row[key] for key in ("task_loss", "fairness_value")] for row in steps(run)]
    assert losses == [[row[key] for key in ("task_loss", "fairness_value")] for row in steps(tmp_path)]


def test_the_soft_attributes_are_probabilities_of_each_attribute(run: Path) -> None:
    soft = stored(run)["soft"]
    assert soft.min() >= 0
    assert soft[:, :2].sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert soft[:, 2:].sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert soft[:, 0].std() > 0.01


def test_what_was_disclosed_is_logged_debited_attacked_and_said(run: Path) -> None:
    (line,) = [json.loads(text) for text in (run / "developer" / "disclosures.jsonl").read_text().splitlines()]
    assert (line["name"], line["release"], line["epsilon_spent"]) == ("sensitive predictor", "predictor", None)
    assert summary(run)["privacy"]["epsilon"] is None
    assert "all, with its head, of a LoRA" in " ".join((run / "said.txt").read_text().split())
    assert not (run / "dealer").exists()
    assert "images of our own" in (run / "auditor" / "log.jsonl").read_text()


def test_the_attack_is_the_predictor_itself(run: Path) -> None:
    """From the disclosed numbers it makes what the developer has: the same guesses of the same people."""
    found, arrays = summary(run)["leakage"]["by_attribute"], stored(run)
    train = arrays["split"] == "train"
    with Path(summary(run)["config"]["attributes"]["file"]).open() as stream:
        header, *lines = [line.strip().split(",") for line in stream]
    truth = {row[0]: dict(zip(header, row, strict=True)) for row in lines}
    male = np.array([truth[record]["Male"] == "yes" for record in arrays["ids"][train]])
    accuracy = (arrays["soft"][train, :2].argmax(axis=1) == male).mean()
    assert found["Male"]["attribute_recovery"]["attack"] == "the auditor's own predictor"
    assert found["Male"]["attribute_recovery"]["accuracy"] == pytest.approx(accuracy)
    assert found["Male"]["attribute_recovery"]["bound"] is None


def test_a_predictor_serves_other_methods_and_seeds(run: Path, shared: Path) -> None:
    more = ("--release", "predictor", "--reuse", str(run), "--set", "training.seed=7", *DEMO)
    other = made(shared, "simulate", "adv", *more, name="-reused")
    assert not (other / "dealer").exists()
    assert not (other / "auditor" / "log.jsonl").exists()
    assert np.array_equal(stored(other)["soft"], stored(run)["soft"])
    assert summary(other)["privacy"] == {"reused": str(run), **summary(run)["privacy"]}


def test_an_interrupted_run_keeps_its_table(run: Path, shared: Path, tmp_path: Path) -> None:
    """Its training is done again, alone: without the auditor, whose folder is not touched."""
    again = tmp_path / "run"
    shutil.copytree(run, again)
    for name in ("summary.json", "developer/cost.json", "developer/predictions.csv"):
        (again / name).unlink()
    shutil.rmtree(again / "developer" / "checkpoint", ignore_errors=True)
    log = (again / "auditor" / "log.jsonl").read_bytes()
    config = world.write_settings(tmp_path / "settings.toml", prepared(shared), COLUMNS)
    command = ["simulate", "-c", str(config), "--method", "orth", "--release", "predictor", "--out", str(again)]
    commands.done([*command, *DEMO, "--set", "privacy.store_values=true", "--resume"], tmp_path / "log")
    assert (again / "auditor" / "log.jsonl").read_bytes() == log
    assert (again / "developer" / "predictions.csv").read_bytes() == (
        run / "developer" / "predictions.csv"
    ).read_bytes()


def test_a_random_backbone_is_refused(shared: Path, tmp_path: Path) -> None:
    config = world.write_settings(tmp_path / "settings.toml", prepared(shared), COLUMNS)
    command = commands.failed(
        ["simulate", "-c", str(config), "--method", "ent", "--release", "predictor", "--out", str(tmp_path / "run")],
        tmp_path / "log",
    )
    assert any('model.weights = "random"' in line for line in command.errors), command.text


def small() -> Settings:
    return load(None, ("data.image_size=48", "model.backbone=demo_vit", "model.weights=demo", "training.device=cpu"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_predictor_that_is_not_finite_is_refused(value: float) -> None:
    like = build_classifier(small(), 2).predictor()
    like["head.weight"][1, 3] = value
    with pytest.raises(ProtocolError, match="not finite"):
        unpack(pack(like), like)


def test_a_predictor_becomes_another_model_whole() -> None:
    settings = small()
    ours, theirs = build_classifier(settings, 5), build_classifier(settings, 5)
    theirs.become({name: torch.randn_like(value) for name, value in theirs.predictor().items()})
    sent = theirs.predictor()
    ours.become(unpack(pack(sent), ours.predictor()))
    assert all(torch.equal(value, sent[name]) for name, value in ours.predictor().items())
    assert sorted(sent) == sorted([*ours.factors(), "head.weight", "head.bias"])


@pytest.mark.parametrize("groups", [(), (2,), (2, 1), (2, 3, 2), (2, 2**24)])
def test_groups_that_make_no_sense_are_refused(groups: tuple[int, ...]) -> None:
    """Before anything is made of that size."""
    settings = small().model_copy(update={"attributes": load(None, ('attributes.columns=["A","B"]',)).attributes})
    run: Any = SimpleNamespace(
        settings=settings, answer=SimpleNamespace(groups=groups), model=SimpleNamespace(width=96)
    )
    with pytest.raises(ProtocolError, match="makes no sense"):
        predictor_term(run)


def _not_finite(data: Path) -> str:
    from secure_fair.training.setup import developer_side

    settings = small().model_copy(
        update={"data": load(None, (f"data.root={data / 'developer'}", "data.image_size=48")).data}
    )
    model = build_classifier(settings, 2)
    parts = model.predictor()
    parts["head.weight"].fill_(3e38)  # finite itself
    model.become(parts)
    with pytest.raises(RunError, match="not finite") as caught:
        soft_attributes(settings, model, developer_side(settings)[1].test, (2,))
    return str(caught.value)


def test_predictions_that_are_not_finite_are_refused(shared: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=commands.server()) as pool:
        assert pool.submit(_not_finite, prepared(shared)).result(commands.PATIENCE)
