"""The command `secure-fair train`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from secure_fair.cli.train import train
from secure_fair.errors import InterruptedRunError, RunError
from secure_fair.settings import Settings
from secure_fair.training import baseline


@pytest.fixture
def file(settings: Settings, tmp_path: Path) -> Path:
    text = f"""
[data]
root = "{settings.data.root}"
image_size = 48
[attributes]
columns = ["Male"]
[model]
backbone = "demo_vit"
weights = "random"
[training]
device = "cpu"
threads = 1
"""
    (tmp_path / "settings.toml").write_text(text)
    return tmp_path / "settings.toml"


def arguments(file: Path, prepared: Path, *more: str) -> list[str]:
    attributes = prepared / "auditor" / "attributes.csv"
    fixed = ["-c", str(file), "--method", "orth", "--attributes", str(attributes), "--out", str(file.parent / "run")]
    return [*fixed, "--set", "training.epochs=1", *more]


def test_json_is_the_summary_and_progress_goes_elsewhere(file: Path, prepared: Path) -> None:
    result = CliRunner().invoke(train, arguments(file, prepared, "--json"), catch_exceptions=False)
    summary = json.loads(result.stdout)
    assert summary == json.loads((file.parent / "run" / "summary.json").read_text())
    assert summary["config"]["training"]["epochs"] == 1
    assert "train orth" in result.stderr


def test_a_table_is_printed_and_an_existing_run_is_refused(file: Path, prepared: Path) -> None:
    result = CliRunner().invoke(train, arguments(file, prepared), catch_exceptions=False)
    assert "equalized_odds_difference" in result.stdout
    with pytest.raises(RunError, match="exists already"):
        CliRunner().invoke(train, arguments(file, prepared), catch_exceptions=False)


def test_ctrl_c_says_how_to_go_on(file: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(baseline, "train", stopped)
    with pytest.raises(InterruptedRunError, match="--resume"):
        CliRunner().invoke(train, arguments(file, prepared), catch_exceptions=False)
