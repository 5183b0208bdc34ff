"""How a party that serves ends: what an interruption is called, and when it is a good end."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_fair.cli.serving import served
from secure_fair.errors import InterruptedRunError, RefusedError, SettingsError


@pytest.mark.parametrize("forever", [False, True])
def test_an_interruption_is_said_in_words(tmp_path: Path, forever: bool) -> None:
    out = tmp_path / "a" / "b"
    with pytest.raises(InterruptedRunError, match="the dealer was stopped"):
        interrupted(out, forever)
    assert out.is_dir()


def interrupted(out: Path, forever: bool) -> None:
    with served(out, "the dealer was stopped", forever=forever):
        raise KeyboardInterrupt


def test_sigterm_is_a_good_end_of_a_service_only(tmp_path: Path) -> None:
    with served(tmp_path, "", forever=True):
        raise InterruptedRunError("SIGTERM")
    with pytest.raises(InterruptedRunError, match="SIGTERM"), served(tmp_path, "", forever=False):
        raise InterruptedRunError("SIGTERM")
    with pytest.raises(RefusedError, match="no"), served(tmp_path, "", forever=True):
        raise RefusedError("no")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SettingsError, match=r"file/out: cannot be made .Not a directory.; name a folder"),
        served(tmp_path / "file" / "out", "", forever=False),
    ):
        pytest.fail("not reached")
