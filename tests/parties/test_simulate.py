"""`secure-fair simulate` from end to end: files, fields, and equality with the plaintext arm."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from secure_fair.data.faces import SKIN_COLUMNS
from secure_fair.privacy.accountant import UNIT, gaussian_cost
from tests.parties import commands, world
from tests.parties.world import BATCH, TEST, TRAIN
from tests.releases.test_noise import FALSE_ALARM, follows_the_law

# The attributes of each run: two groups, three, and both attributes at once.
RUNS = {
    ("orth", "gradient"): ("Male",),
    ("adv", "gradient"): ("SkinTone",),
    ("ent", "gradient"): ("Male*SkinTone",),
    ("ent", "moment"): ("Male",),
    ("unl", "moment"): ("Male",),
    ("orth", "moment"): ("Male", "SkinTone"),
    ("orth", "randomized-response"): ("Male",),
}
EPSILON = {"moment": 50.0, "randomized-response": 2.0}  # large, so that noise does not drown what is tested
Integers = npt.NDArray[np.int64]
STEPS = -(-TRAIN // BATCH)
METRICS = {
    "accuracy",
    "balanced_accuracy",
    "auc",
    "worst_group_accuracy",
    "demographic_parity_difference",
    "true_positive_rate_difference",
    "false_positive_rate_difference",
    "equalized_odds_difference",
    "by_group",
}
COSTS = {
    "steps",
    "rounds_per_step",
    "bytes_sent",
    "bytes_received",
    "floor_bytes",
    "mpc_seconds",
    "exposed_seconds",
    "train_seconds",
    "total_seconds",
}
DEVELOPERS = {"adapter", "head.safetensors", "metrics.json", "steps.csv", "cost.json", "disclosures.jsonl"}
DISCLOSED = {"step", "name", "to", "shape", "release", "epsilon_spent", "sha256"}


@pytest.fixture(params=RUNS, ids="-".join)
def run(request: pytest.FixtureRequest, shared: Path) -> Path:
    return made(shared, *request.param)


def made(shared: Path, method: str, release: str) -> Path:
    more = ["--set", f"privacy.epsilon={EPSILON[release]}"] if release in EPSILON else []
    return world.simulated(shared, method, release, RUNS[method, release], *more)


def summary(run: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return table


def steps(run: Path) -> list[dict[str, float]]:
    with (run / "developer" / "steps.csv").open(newline="") as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def disclosed(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "developer" / "disclosures.jsonl").read_text().splitlines()]


def test_the_files_of_a_run_and_their_fields(run: Path) -> None:
    method, release = run.name.split("-", 1)
    found = summary(run)
    assert (found["method"], found["release"], found["arm"], found["seed"]) == (method, release, "secure", 0)
    assert set(found["metrics"]) == METRICS
    assert set(found.get("metrics_by_attribute", ())) == (
        set(RUNS[method, release]) if len(RUNS[method, release]) > 1 else set()
    )
    assert set(found["cost"]) >= COSTS
    assert found["cost"]["steps"] == STEPS == len(steps(run))
    assert found["cost"]["bytes_sent"] + found["cost"]["bytes_received"] >= found["cost"]["floor_bytes"] > 0
    assert {"config", "versions", "commit"} <= set(found)

    developer = run / "developer"
    assert {"adapter", "head.safetensors", "metrics.json", "steps.csv", "cost.json"} <= {
        p.name for p in developer.iterdir()
    }
    assert list((developer / "checkpoint").iterdir())
    assert "difference" not in (developer / "metrics.json").read_text()  # the developer has no groups
    assert "warning: fewer than 10 records to test on of " in (run / "log.txt").read_text()  # the launcher has
    assert (run / "auditor" / "ledger.sqlite").exists()
    assert (run / "auditor" / "log.txt").exists()
    assert (run / "dealer" / "log.txt").exists() == (release != "randomized-response")

    lines = disclosed(run)
    assert len(lines) == (STEPS if release == "gradient" else 1) == found["privacy"]["releases"]
    assert all(set(line) >= DISCLOSED and line["to"] == "developer" and line["release"] == release for line in lines)
    if release == "gradient":
        assert [line["step"] for line in lines] == list(range(STEPS))
        assert lines[-1]["shape"] == [TRAIN % BATCH, 97 if method == "orth" else 96]
        assert found["privacy"]["epsilon"] is None
        assert "can read every attribute" in " ".join((run / "log.txt").read_text().split())
    else:
        assert lines[0]["epsilon_spent"] == found["privacy"]["epsilon"] == pytest.approx(EPSILON[release], rel=1e-6)
        assert "can read every attribute" not in (run / "log.txt").read_text()


def test_a_run_on_an_earlier_release_says_what_that_has_cost(shared: Path, tmp_path: Path) -> None:
    """Another method, and then one more on the run that has reused it; nothing new is debited, nothing is forgotten."""
    first = made(shared, "ent", "moment")
    config, data = shared / "ent-moment.toml", world.prepared(shared)
    command = ["simulate", "-c", str(config), "--release", "moment", "--set", "privacy.epsilon=0.001"]
    before, second, third = summary(first)["privacy"], tmp_path / "second", tmp_path / "third"
    for method, earlier, out in (("orth", first, second), ("unl", second, third)):
        arguments = ["--method", method, "--reuse", str(earlier), "--out", str(out)]
        commands.done([*command, *arguments], tmp_path / f"{method}.log")
        assert summary(out)["privacy"] == {"reused": str(first), **before}
        assert not (out / "auditor" / "ledger.sqlite").exists()
    assert before["epsilon"] == pytest.approx(EPSILON["moment"], rel=1e-6)
    for more, said in (
        (["--release", "randomized-response"], "its release was moment, not randomized-response"),
        (["--set", 'attributes.columns=["SkinTone"]'], "its attributes.columns was ['Male'], not ['SkinTone']"),
        (["--reuse", str(data)], "name the folder of a finished `secure-fair simulate`"),
        (["--policy", str(data / "none.toml")], "none.toml: no such policy file"),
    ):
        out = tmp_path / "refused"
        wrong = [*command, "--method", "orth", "--reuse", str(first), "--out", str(out), *more]
        assert said in commands.failed(wrong, tmp_path / "refused.log").text
        assert not out.exists()


def test_the_adapter_is_one_that_peft_loads(run: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=commands.server()) as pool:
        assert pool.submit(scores_again, run).result(commands.PATIENCE) < 1e-5


def scores_again(run: Path) -> float:
    """Largest difference between the run's predictions and those of a model put together from its files."""
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file

    from secure_fair.data.images import batches
    from secure_fair.model import backbone
    from secure_fair.settings import Settings, parse
    from secure_fair.training import predictions
    from secure_fair.training.setup import developer_side

    settings = parse(Settings, summary(run)["config"], "summary.json")
    _, splits = developer_side(settings)
    frozen = backbone.build(settings.model, settings.data.image_size, settings.training.seed)
    if (run / "developer" / "subtracted").exists():  # UNL
        frozen = PeftModel.from_pretrained(frozen, str(run / "developer" / "subtracted")).merge_and_unload()
    adapted = PeftModel.from_pretrained(frozen, str(run / "developer" / "adapter")).eval()
    head = load_file(run / "developer" / "head.safetensors")
    (batch,) = batches(splits.test, TEST, epoch=None, seed=0)
    with torch.no_grad():
        logits = torch.nn.functional.linear(adapted(batch.images), head["weight"], head["bias"])
    stored = predictions.read(run / "developer" / "predictions.csv", "test")
    assert stored.ids == splits.test.ids
    return float(np.abs(torch.softmax(logits, 1).numpy() - stored.scores).max())


def test_the_moment_is_that_of_the_right_records(shared: Path) -> None:
    """What was opened minus the moment of features, labels and attributes joined by id is the noise, and only that."""
    run = made(shared, "orth", "moment")
    with ProcessPoolExecutor(1, mp_context=commands.server()) as pool:
        u, labels, ids = pool.submit(_vectors_again, run).result(commands.PATIENCE)
    table = attributes(run)
    male = np.array([table[record]["Male"] == "yes" for record in ids])
    tones = [np.array([table[record]["SkinTone"] == tone for record in ids]) for tone in SKIN_COLUMNS]
    t = np.stack([male, *tones], axis=1).astype(np.int64)
    joint = np.concatenate([(labels == label)[:, None] * t for label in (0, 1)], axis=1)  # [n, 8]
    (stored,) = (run / "developer" / "disclosures").glob("*.npz")
    opened = np.load(stored)["value"]
    # Replacing a row moves one column for two groups and two for three, each by ||u|| = sqrt(1 + 1/16).
    rho = gaussian_cost(EPSILON["moment"], 1e-5).rho / UNIT
    scale = math.sqrt(3) * math.sqrt(1 + 1 / 16) * 2**16 / math.sqrt(2 * rho)
    assert opened.shape == (97, 8)
    assert follows_the_law((opened - u.T @ joint).ravel(), scale), f"false alarm {FALSE_ALARM}"
    assert not follows_the_law((opened - u.T @ np.roll(joint, 1, axis=0)).ravel(), scale)


def _vectors_again(run: Path) -> tuple[Integers, Integers, tuple[str, ...]]:
    """u, labels and ids of the training records, as the developer makes them from its own folder."""
    from parties.features import Features
    from parties.moments import moment_plan
    from secure_fair.releases.moment import quantise
    from secure_fair.settings import Settings, parse
    from secure_fair.training.setup import developer_side

    settings = parse(Settings, summary(run)["config"], "summary.json")
    model, splits = developer_side(settings)
    u = Features(settings, model, splits, lambda *_: None).vectors(with_current=False)["train"]
    plan = moment_plan(settings, (2, 3), 2, model.width, weighted=False, index=0)
    return quantise(u, plan), splits.train.labels.numpy(), splits.train.ids


def test_a_randomized_response_is_about_the_right_records(shared: Path) -> None:
    """At epsilon 2 each answer is the truth with probability 0.88; 5.5 standard errors are a false alarm below 1e-7."""
    run = made(shared, "orth", "randomized-response")
    table = attributes(run)
    ids = sorted(table)
    (stored,) = (run / "developer" / "disclosures").glob("*.npz")
    arrays = np.load(stored)
    truth = np.array([table[ids[position]]["Male"] == "yes" for position in arrays["records"]])
    keep = math.exp(2) / (1 + math.exp(2))
    right = (arrays["value"].ravel() == truth).mean()
    assert abs(right - keep) < 5.5 * math.sqrt(keep * (1 - keep) / TRAIN)


def attributes(run: Path) -> dict[str, dict[str, str]]:
    with Path(summary(run)["config"]["attributes"]["file"]).open(newline="") as stream:
        return {row["id"]: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("method", ["orth", "adv", "ent"])
def test_a_secure_run_equals_the_plaintext_one(method: str, shared: Path) -> None:
    """Step by step and in every metric.

    ORTH's arms differ by the rounding of H to 2^-17, ADV's and ENT's by the sine's error and the weights' 24 bits too;
    Adam passes that on. Measured: 1.2e-6 at most for ORTH in these steps, 1.1e-5 for ADV, whose
    adversary's step size multiplies the sine's error. The values are near 0.01 and 0.5, the losses near 0.7.
    """
    secure, plain = made(shared, method, "gradient"), world.trained(shared, method, RUNS[method, "gradient"])
    for mine, theirs in zip(steps(secure), steps(plain), strict=True):
        assert mine["task_loss"] == pytest.approx(theirs["task_loss"], abs=1e-5 if method == "orth" else 1e-4)
        assert mine["fairness_value"] == pytest.approx(theirs["fairness_value"], abs=5e-6 if method == "orth" else 1e-4)
    assert steps(secure)[0]["task_loss"] == steps(plain)[0]["task_loss"]
    assert flat(summary(secure)["metrics"]) == pytest.approx(flat(summary(plain)["metrics"]), abs=1e-9)


DELAYED = ("--set", "training.delayed=true", "--set", "training.checkpoint_steps=2")


@pytest.mark.parametrize("method", ["orth", "adv"])
def test_a_secure_run_whose_gradients_are_late_equals_the_plaintext_one(method: str, shared: Path) -> None:
    """The auditor does not see the difference: a step for each batch, in the same order, checkpoints after the same."""
    secure = world.simulated(shared, method, "gradient", ("Male",), *DELAYED, name=f"{method}-delayed")
    plain = world.trained(shared, method, ("Male",), *DELAYED, name=f"{method}-delayed-plaintext")
    assert len(steps(secure)) == STEPS
    assert [line["step"] for line in disclosed(secure)] == list(range(STEPS))
    for mine, theirs in zip(steps(secure), steps(plain), strict=True):
        assert mine["task_loss"] == pytest.approx(theirs["task_loss"], abs=1e-5 if method == "orth" else 1e-4)
        assert mine["fairness_value"] == pytest.approx(theirs["fairness_value"], abs=5e-6 if method == "orth" else 1e-4)
    cost = summary(secure)["cost"]
    assert 0 < cost["exposed_seconds"] < cost["mpc_seconds"]


def flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Every number under its path; of several classes, one a class."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        parts = dict(enumerate(value)) if isinstance(value, list) else value
        found |= flat(parts, f"{prefix}{name}.") if isinstance(parts, dict) else {f"{prefix}{name}": value}
    return found
