"""`secure-fair demo`: what it keeps of an earlier call."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_fair.cli import demo, main


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


@pytest.mark.parametrize(("text", "said"), [(None, "drawn with seed 0"), ("{", "does not say how"), ("[]", "does not")])
def test_an_older_folder_is_of_the_default_seed(
    tmp_path: Path, text: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "settings.toml").touch()
    if text is not None:
        (tmp_path / demo.DRAWN).write_text(text)
    else:
        demo._require_seed(tmp_path, 0)
    assert main.run(["demo", "--out", str(tmp_path), "--seed", "1"]) == 1
    assert said in " ".join(capsys.readouterr().err.split())
