"""Once a private release has arrived: nobody is needed any more, and what arrived serves the same question only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from parties import moments
from secure_fair.cli.main import run as secure_fair
from secure_fair.errors import RunError
from tests.parties import commands, own_loops, world
from tests.parties.commands import Start
from tests.parties.test_simulate import STEPS, made, summary
from tests.parties.world import Deployment

EPOCHS = 20


@pytest.mark.parametrize("release", ["moment", "randomized-response"])
def test_training_needs_no_peer(start: Start, tmp_path: Path, data: Path, deployment: Deployment, release: str) -> None:
    """Auditor and dealer have ended well while the developer is still in its first steps, and it goes on to its end."""
    config = world.write_settings(tmp_path / "settings.toml", data)
    policy = world.write_policy(tmp_path / "policy.toml", [release])
    own = {
        "dealer": (),
        "auditor": ("--policy", str(policy)),
        "developer": ("--method", "orth", "--release", release),
    }
    roles = [role for role in own if role != "dealer" or release == "moment"]
    parties = {
        role: start(role, deployment.party(role, config, tmp_path / role, *own[role], training__epochs=EPOCHS))
        for role in roles
    }
    for role in roles[:-1]:
        assert parties[role].wait() == 0, parties[role].text
    steps = tmp_path / "developer" / "steps.csv"
    assert not steps.exists() or len(steps.read_text().splitlines()) < EPOCHS * STEPS, "training was over before"
    assert parties["developer"].wait() == 0, parties["developer"].text
    assert len(steps.read_text().splitlines()) == EPOCHS * STEPS + 1
    cost = json.loads((tmp_path / "developer" / "cost.json").read_text())
    assert cost["bytes_received"] > 0
    assert (cost["offline_bytes"] > 0) == (release == "moment")


@pytest.fixture
def answered(shared: Path) -> Path:
    """A finished run with randomized responses about Male."""
    return made(shared, "orth", "randomized-response")


@pytest.fixture
def interrupted(answered: Path, tmp_path: Path) -> Path:
    """A copy of it as it was between the release and the first checkpoint."""
    copy = tmp_path / "interrupted"
    shutil.copytree(answered, copy)
    (copy / "summary.json").unlink()
    (copy / "developer" / "cost.json").unlink()
    shutil.rmtree(copy / "developer" / "checkpoint")
    return copy


def arguments(run: Path, *command: str, release: str = "randomized-response", columns: str = "Male") -> list[str]:
    """A command line with the settings of `answered`."""
    fixed = ["-c", str(run.with_suffix(".toml")), "--method", "orth", "--release", release]
    overrides = (f'attributes.columns=["{columns}"]', "privacy.epsilon=2.0", "privacy.store_values=true")
    return [*command, *fixed, *(part for override in overrides for part in ("--set", override))]


REFUSED = {
    "another release": {"release": "moment"},
    "a release without soft attributes": {"release": "gradient"},
    "other attributes": {"columns": "SkinTone"},
}


@pytest.mark.parametrize("other", REFUSED)
@pytest.mark.parametrize("how", ["simulate", "developer"])
def test_a_release_serves_the_same_question_only(
    answered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, other: str
) -> None:
    command, folder = (
        (["simulate"], answered) if how == "simulate" else (["party", "developer"], answered / "developer")
    )
    out = tmp_path / "again"
    status = secure_fair([*arguments(answered, *command, **REFUSED[other]), "--reuse", str(folder), "--out", str(out)])
    assert status == 1
    asked = {"release": "randomized-response", "columns": "Male"} | REFUSED[other]
    said = " ".join(capsys.readouterr().err.split())
    if how == "simulate":
        assert "reuse it for that, or leave --reuse out" in said
    else:
        assert "from release `randomized-response` of Male, and this run is about " in said
        assert f"release `{asked['release']}` of {asked['columns']}; only the same can be used again" in said
    assert not out.exists()


NO_SUMMARY = ": no summary.json that says what its release has cost"
OF_GRADIENT = '{"privacy": %s, "release": "gradient", "config": {"attributes": {"columns": ["Male"]}}}'
NOT_REUSED = {
    "{": NO_SUMMARY,
    "[]": NO_SUMMARY,
    "null": NO_SUMMARY,
    OF_GRADIENT % "null": NO_SUMMARY,
    OF_GRADIENT % '{"id": "7"}': "/developer/soft_attributes.npz: no soft attributes to reuse",
}


@pytest.mark.parametrize("text", NOT_REUSED)
def test_what_no_run_can_reuse_is_refused_before_there_is_a_folder(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "summary.json").write_text(text)
    config, out = world.write_settings(tmp_path / "settings.toml", data), tmp_path / "again"
    asked = ["simulate", "-c", str(config), "--method", "orth", "--release", "gradient", "--reuse", str(tmp_path)]
    assert secure_fair([*asked, "--out", str(out)]) == 1
    assert f"error: {tmp_path}{NOT_REUSED[text]}" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_a_resumed_run_does_not_take_other_attributes(interrupted: Path, answered: Path) -> None:
    more = ["--resume", "--out", str(interrupted / "developer")]
    assert secure_fair([*arguments(answered, "party", "developer", columns="SkinTone"), *more]) == 1
    assert not (interrupted / "developer" / "cost.json").exists()


def test_a_run_resumed_after_its_release_is_attacked_all_the_same(interrupted: Path, answered: Path) -> None:
    more = ["--resume", "--out", str(interrupted)]
    commands.done([*arguments(answered, "simulate"), *more], interrupted.with_suffix(".log"))
    assert summary(interrupted)["leakage"] == summary(answered)["leakage"]


def damaged(file: Path) -> None:
    file.write_bytes(bytes(100))


def cut_off(file: Path) -> None:
    np.savez(file, ids=np.array(["a"]))
    file.write_bytes(file.read_bytes()[:60])


def of_another_version(file: Path) -> None:
    np.savez(file, ids=np.array(["a"]))


@pytest.mark.parametrize("hurt", [damaged, cut_off, of_another_version])
@pytest.mark.parametrize("name", [moments.SOFT_FILE, moments.SHARE_FILE])
def test_what_arrived_may_be_damaged(tmp_path: Path, hurt: Callable[[Path], None], name: str) -> None:
    hurt(tmp_path / name)
    read = moments.arrived if name == moments.SOFT_FILE else moments.lost_session
    with pytest.raises(RunError, match=f"{name}: damaged, or of another version; .* remove the file and resume"):
        read(tmp_path)


def test_a_fresh_run_drops_the_checkpoints_of_an_earlier_one_before_it_asks(
    answered: Path, tmp_path: Path, start: Start, deployment: Deployment
) -> None:
    """No auditor comes: the run ends where it would end, interrupted, before its release."""
    used = tmp_path / "developer"
    shutil.copytree(answered / "developer", used)
    assert list((used / "checkpoint").iterdir())
    config = answered.with_suffix(".toml")
    fresh = deployment.party(
        "developer",
        config,
        used,
        "--method",
        "orth",
        "--release",
        "randomized-response",
        network__start_timeout_seconds=1,
    )
    developer = start("developer", fresh)
    assert developer.wait() == 1
    assert "start it" in developer.errors[0]
    assert not list((used / "checkpoint").iterdir())
    assert not (used / moments.SOFT_FILE).exists()


def test_a_loop_of_ones_own_in_a_used_folder_asks_anew(tmp_path: Path) -> None:
    assert own_loops.run("again", tmp_path) == {"releases": ["moment", "moment"]}
