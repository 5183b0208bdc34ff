"""`secure-fair demo`: what it keeps of an earlier call."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_fair.cli import demo, main
from secure_fair.sections import MAX_SEED


def test_faces_of_another_seed_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "IMAGES", 200)
    (tmp_path / "settings.toml").write_text("# kept\n")
    demo._prepare(tmp_path, 1)
    demo._require_seed(tmp_path, 1)
    for seed in ("0", "2"):
        assert main.run(["demo", "--out", str(tmp_path), "--seed", seed]) == 1
        assert "faces were drawn with seed 1; name another --out" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "settings.toml").read_text() == "# kept\n"


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_folder_that_does_not_say_its_seed(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "settings.toml").touch()
    if text is not None:
        (tmp_path / demo.DRAWN).write_text(text)
    assert main.run(["demo", "--out", str(tmp_path)]) == 1
    assert "does not say how the faces were drawn; name another --out" in " ".join(capsys.readouterr().err.split())


def test_a_seed_that_training_refuses_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    assert main.run(["demo", "--out", str(out), "--seed", str(MAX_SEED)]) != 0
    assert not out.exists()
