"""UNL from end to end: an auditor with images of its own trains an adapter, which the developer subtracts."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from secure_fair.cli.leakage import leakage
from secure_fair.data import celeba, faces, prepare
from tests.parties import commands, world
from tests.parties.test_simulate import flat, scores_again, steps

COLUMNS = ("Male", "SkinTone")


def prepared(folder: Path) -> Path:
    """200 faces; the auditor has a third of the training images to itself."""

    def make(out: Path) -> None:
        faces.draw(out / "faces", faces.FaceSettings(count=200, seed=2, size=(48, 48), correlation=0.7))
        joins = {faces.SKIN: faces.SKIN_COLUMNS}
        chosen = prepare.PrepareSettings("Smiling", COLUMNS, joins=joins, auditor_images=0.33)
        prepare.prepare(celeba.read(out / "faces"), out / "prepared", chosen)

    return world.once(folder, "data-own", make) / "prepared"


def made(folder: Path, command: str, method: str, *more: str, name: str = "") -> Path:
    """A run of `simulate` or `train` on these data."""

    def make(run: Path) -> None:
        config = world.write_settings(run.with_suffix(".toml"), prepared(folder), COLUMNS)
        fixed = [
            command,
            "-c",
            str(config),
            "--method",
            method,
            "--out",
            str(run),
            "--set",
            "privacy.store_values=true",
        ]
        text = commands.done([*fixed, *more], run.with_suffix(".log"))
        (run / "said.txt").write_text(text)

    return world.once(folder, f"own-{command}-{method}{name}", make)


def summary(run: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return table


@pytest.fixture(name="run")
def _run(shared: Path) -> Path:
    return made(shared, "simulate", "unl", "--release", "adapter")


def test_the_secure_run_is_the_plaintext_one(run: Path, shared: Path) -> None:
    """The same training on the same images, in another process: bit for bit."""
    plain = made(shared, "train", "unl")
    assert steps(run) != steps(made(shared, "train", "erm"))
    assert [row["task_loss"] for row in steps(run)] == [row["task_loss"] for row in steps(plain)]
    assert flat(summary(run)["metrics"]) == flat(summary(plain)["metrics"])
    assert summary(run)["metrics_by_attribute"].keys() == set(COLUMNS)


def test_what_was_disclosed_is_logged_debited_and_said(run: Path, shared: Path) -> None:
    (line,) = [json.loads(text) for text in (run / "developer" / "disclosures.jsonl").read_text().splitlines()]
    assert (line["name"], line["release"], line["epsilon_spent"]) == ("sensitive adapter", "adapter", None)
    found = summary(run)
    assert found["privacy"]["epsilon"] is None
    assert "under the sensitive LoRA" in found["leakage"]["attribute_recovery"]["attack"]
    rows = (prepared(shared) / "auditor" / "images.csv").read_text().splitlines()[1:]
    own = sum(",train," in row for row in rows)
    (said,) = [
        line
        for line in (run / "auditor" / "log.jsonl").read_text().splitlines()
        if "training the sensitive adapter on images of our own" in line
    ]
    assert str(own) in said
    assert "There is no guarantee" in " ".join((run / "said.txt").read_text().split())
    assert not (run / "dealer").exists()


def test_an_auditor_without_images_says_so(shared: Path, tmp_path: Path) -> None:
    config = world.write_settings(tmp_path / "settings.toml", world.prepared(shared))
    command = commands.failed(
        ["simulate", "-c", str(config), "--method", "unl", "--release", "adapter", "--out", str(tmp_path / "run")],
        tmp_path / "log",
    )
    said = [line for line in command.errors if "images.csv: missing file" in line]
    assert said, command.text
    assert all("data prepare ... --auditor-images" in line for line in said), command.text


def test_a_run_loads_with_timm_and_peft_alone(run: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=commands.server()) as pool:
        assert pool.submit(scores_again, run).result(commands.PATIENCE) < 1e-5


@pytest.mark.parametrize("factors", ["A", "AB"])
def test_the_overlap_equals_plaintext_and_gives_the_row_space_away(shared: Path, factors: str) -> None:
    """Step by step, up to the rounding of factors of about 0.1 to 2^-19; the attack reads all of the row space."""
    more = ("--set", f"fairness.factors={factors}", "--set", "fairness.weight=3")
    run = made(shared, "simulate", "orth-adapter", "--release", "adapter-gradient", *more, name=f"-{factors}")
    plain = made(shared, "train", "orth-adapter", *more, name=f"-{factors}")
    for mine, theirs in zip(steps(run), steps(plain), strict=True):
        assert mine["task_loss"] == pytest.approx(theirs["task_loss"], abs=1e-5)
        assert mine["fairness_value"] == pytest.approx(theirs["fairness_value"], rel=1e-3)
    assert steps(run)[-1]["fairness_value"] < steps(run)[0]["fairness_value"]  # the penalty works
    found = summary(run)
    printed = CliRunner().invoke(leakage, [str(run)])
    assert "1.000 of it recovered" in printed.output, printed.output
    assert found["leakage"]["row_space"]["recovered"] > 0.99 > 10 * found["leakage"]["row_space"]["by_chance"]
    assert found["privacy"]["epsilon"] is None
    assert found["cost"]["bytes_sent"] + found["cost"]["bytes_received"] >= found["cost"]["floor_bytes"] > 0
    assert "the row space of a LoRA" in " ".join((run / "said.txt").read_text().split())
    kept = run / "auditor" / "sensitive.safetensors"
    assert kept.stat().st_mode & 0o777 == 0o600
