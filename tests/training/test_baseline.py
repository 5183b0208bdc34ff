"""Plaintext runs end to end on a tiny prepared folder: files, determinism, resuming, reloading."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch.nn import functional

from secure_fair.data.images import ImageSet, TransformSpec, batches, read_labels
from secure_fair.errors import DataError, RunError, SettingsError
from secure_fair.fairness import metrics
from secure_fair.model.backbone import DEMO_ARCHITECTURE
from secure_fair.model.classifier import load_classifier
from secure_fair.settings import Settings, parse
from secure_fair.training import predictions
from secure_fair.training.baseline import run_plaintext
from secure_fair.training.run_folder import read_table
from secure_fair.training.setup import developer_side

METHODS = ("erm", "orth", "adv")


def silent(done: int, total: int) -> None:
    pass


def run(settings: Settings, method: str, prepared: Path, out: Path, **options: Any) -> dict[str, Any]:
    return run_plaintext(settings, method, prepared / "auditor" / "attributes.csv", out, silent, **options)


def steps(out: Path) -> list[dict[str, str]]:
    with (out / "developer" / "steps.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def curve(out: Path) -> list[tuple[str, str, str, str]]:
    return [(row["step"], row["epoch"], row["task_loss"], row["fairness_value"]) for row in steps(out)]


@pytest.fixture(scope="module")
def finished(settings: Settings, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One uninterrupted run of each method; not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    for method in METHODS:
        run(settings, method, prepared, folder / method)
    return {method: folder / method for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_the_files_of_the_contract(method: str, finished: dict[str, Path]) -> None:
    out = finished[method]
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["method"], summary["arm"], summary["release"], summary["seed"]) == (method, "plaintext", "none", 3)
    assert summary["cost"]["steps"] == len(steps(out)) == 6  # 40 images in batches of 16: 3 steps an epoch
    assert 0 < summary["cost"]["train_seconds"] < summary["cost"]["total_seconds"]
    assert {file.name for file in (out / "developer").iterdir()} == {
        "adapter", "checkpoint", "cost.json", "head.safetensors", "metrics.json", "predictions.csv", "steps.csv"
    }  # fmt: skip
    assert len(list((out / "developer" / "checkpoint").iterdir())) == 2
    if method != "erm":
        assert all(float(row["fairness_value"]) > 0 for row in steps(out))


def test_a_balanced_loss_weighs_each_class_by_the_inverse_of_its_share(
    settings: Settings, prepared: Path, tmp_path: Path
) -> None:
    """Beside it the same by hand, from the sum over records."""
    shutil.copytree(prepared, tmp_path / "prepared")
    labels = tmp_path / "prepared" / "developer" / "labels.csv"
    rows = labels.read_text().splitlines()
    rare = [row for row in rows if row.endswith(",yes,train")][:12]
    labels.write_text("".join(f"{row}\n" for row in rows if row not in rare))
    options = settings.training.model_copy(update={"balanced": True})
    lora = settings.lora.model_copy(update={"dropout": 0.0})
    data = settings.data.model_copy(update={"root": labels.parent})
    chosen = settings.model_copy(update={"training": options, "lora": lora, "data": data})
    run(chosen, "erm", tmp_path / "prepared", tmp_path / "balanced")

    model, splits = developer_side(chosen)
    parameters = list(model.train().trainable().values())
    optimiser = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    shares = torch.bincount(splits.train.labels) / len(splits.train)
    assert shares.tolist() == pytest.approx([20 / 28, 8 / 28])
    losses = []
    for epoch in range(options.epochs):
        for batch in batches(splits.train, options.batch_size, epoch=epoch, seed=options.seed):
            each = functional.cross_entropy(model(batch.images), batch.labels, reduction="none")
            weights = 1 / shares[batch.labels]
            loss = (weights * each).sum() / weights.sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert [float(row["task_loss"]) for row in steps(tmp_path / "balanced")] == pytest.approx(losses, rel=1e-5)


def test_the_developers_metrics_hold_no_group(finished: dict[str, Path]) -> None:
    own = json.loads((finished["orth"] / "developer" / "metrics.json").read_text())
    assert set(own) == {"version", "val", "test"}
    assert set(own["test"]) == {"accuracy", "balanced_accuracy", "auc"}


def test_summary_metrics_join_predictions_and_attributes_by_id(finished: dict[str, Path], prepared: Path) -> None:
    summary = json.loads((finished["erm"] / "summary.json").read_text())
    with (prepared / "auditor" / "attributes.csv").open(newline="") as stream:
        group = {row["id"]: row["Male"] for row in csv.DictReader(stream)}
    with (finished["erm"] / "developer" / "predictions.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    assert len(rows) == 14
    for name in ("no", "yes"):
        members = [row for row in rows if group[row["id"]] == name]
        right = sum(row["label"] == row["prediction"] for row in members)
        assert summary["metrics"]["by_group"][name]["count"] == len(members)
        assert summary["metrics"]["by_group"][name]["accuracy"] == pytest.approx(right / len(members))


def test_same_seed_same_run(finished: dict[str, Path], settings: Settings, prepared: Path, tmp_path: Path) -> None:
    run(settings, "adv", prepared, tmp_path / "again")
    assert curve(tmp_path / "again") == curve(finished["adv"])
    files = [(folder / "developer" / "predictions.csv").read_text() for folder in (tmp_path / "again", finished["adv"])]
    assert files[0] == files[1]


def test_methods_start_from_the_same_model_and_data(finished: dict[str, Path]) -> None:
    assert len({curve(out)[0][2] for out in finished.values()}) == 1
    assert len({curve(out)[-1][2] for out in finished.values()}) == len(METHODS)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop", [2, 3, 4])  # inside the first epoch (no checkpoint yet), at its end, after it
def test_a_resumed_run_equals_an_uninterrupted_one(
    stop: int, finished: dict[str, Path], settings: Settings, prepared: Path, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == stop:
            raise StoppedError

    attributes, out = prepared / "auditor" / "attributes.csv", tmp_path / "cut"
    with pytest.raises(StoppedError):
        run_plaintext(settings, "adv", attributes, out, interrupt)
    assert not (out / "summary.json").exists()
    resumed = run(settings, "adv", prepared, out, resume=True)
    assert curve(out) == curve(finished["adv"])
    assert resumed["metrics"] == json.loads((finished["adv"] / "summary.json").read_text())["metrics"]


def test_resuming_passes_over_a_damaged_checkpoint(
    finished: dict[str, Path], settings: Settings, prepared: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cut"
    shutil.copytree(finished["adv"], out)
    (out / "summary.json").unlink()
    newest = max((out / "developer" / "checkpoint").iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    run(settings, "adv", prepared, out, resume=True)
    assert curve(out) == curve(finished["adv"])


def test_runs_that_cannot_be_started_or_resumed_say_why(
    finished: dict[str, Path], settings: Settings, prepared: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished["erm"], tmp_path / "run")
    with pytest.raises(RunError, match="exists already"):
        run(settings, "erm", prepared, tmp_path / "run")
    with pytest.raises(RunError, match="complete"):
        run(settings, "erm", prepared, tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="no run to resume"):
        run(settings, "erm", prepared, tmp_path / "other", resume=True)
    (tmp_path / "run" / "summary.json").unlink()
    changed = settings.model_copy(update={"lora": settings.lora.model_copy(update={"rank": 2})})
    with pytest.raises(RunError, match="other settings"):
        run(changed, "erm", prepared, tmp_path / "run", resume=True)
    with pytest.raises(SettingsError, match=r"name the auditor's attributes\.csv"):
        run_plaintext(settings, "orth", None, tmp_path / "new", silent)
    with pytest.raises(SettingsError, match="Male, Skin"):
        read_table(prepared / "auditor" / "attributes.csv", ())
    with pytest.raises(DataError, match=r"no\.csv: missing file"):  # and not the schema that lies nowhere either
        read_table(tmp_path / "no.csv", ("Male",))


def test_erm_does_without_attributes(settings: Settings, tmp_path: Path) -> None:
    summary = run_plaintext(settings, "erm", None, tmp_path / "run", silent)
    assert set(summary["metrics"]) == {"accuracy", "balanced_accuracy", "auc"}


def test_several_attributes_are_trained_and_reported(settings: Settings, prepared: Path, tmp_path: Path) -> None:
    both = settings.model_copy(
        update={"attributes": settings.attributes.model_copy(update={"columns": ("Skin", "Male")})}
    )
    summary = run(both, "orth", prepared, tmp_path / "run")
    assert set(summary["metrics"]["by_group"]) == {"pale", "medium", "dark"}
    assert summary["metrics_by_attribute"]["Skin"] == summary["metrics"]
    assert set(summary["metrics_by_attribute"]["Male"]["by_group"]) == {"no", "yes"}


def test_a_loss_that_is_not_finite_stops_the_run(settings: Settings, prepared: Path, tmp_path: Path) -> None:
    wild = parse(Settings, {**settings.model_dump(), "training": {"learning_rate": 1e30, "device": "cpu"}}, "test")
    with pytest.raises(RunError, match=r"not finite.*lower"):
        run(wild, "erm", prepared, tmp_path / "run")


def test_a_saved_run_loads_with_plain_timm_and_peft(
    finished: dict[str, Path], settings: Settings, prepared: Path
) -> None:
    folder = finished["orth"] / "developer"
    table = read_labels(prepared / "developer")
    own = load_classifier(settings, folder).eval()
    test = ImageSet(table, "test", TransformSpec.of(own.data_config, 48))
    images = torch.stack([test[i][0] for i in range(len(test))])
    frozen = own.adapted.get_base_model()
    weights = {
        name.replace(".base_layer", ""): value for name, value in frozen.state_dict().items() if "lora" not in name
    }

    # The ten lines of the documentation. With `weights = "imagenet"` the first two are one: timm.create_model(name,
    # pretrained=True, num_classes=0).
    backbone = timm.models.VisionTransformer(**DEMO_ARCHITECTURE)
    backbone.load_state_dict(weights)
    model = peft.PeftModel.from_pretrained(backbone, str(folder / "adapter")).eval()
    head = load_file(folder / "head.safetensors")
    with torch.inference_mode():
        scores = (model(images) @ head["weight"].T + head["bias"]).softmax(dim=1)

    saved = predictions.read(folder / "predictions.csv", "test")
    assert saved.ids == test.ids
    np.testing.assert_allclose(scores.numpy(), saved.scores, atol=1e-5)
    assert metrics.overall(saved.labels, scores.numpy()) == metrics.overall(saved.labels, saved.scores)
