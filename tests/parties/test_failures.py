"""When something goes wrong, every process ends soon, each with one clear error, and nothing is left running."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from parties.messages import PROTOCOL_VERSION, AuditorHello
from secure_fair.cli.main import run as secure_fair
from secure_fair.errors import PeerRefusedError
from secure_fair.mpc.kinds import Kind
from secure_fair.transport import tls
from secure_fair.transport.accept import Acceptor
from secure_fair.transport.frames import Connection
from tests.parties import commands, world
from tests.parties.commands import PATIENCE, Command, Start
from tests.parties.faults import said_for_developer
from tests.parties.world import PROMPT, ROLES, Deployment


def ended(processes: list[psutil.Process], since: float) -> None:
    """All are gone, within PROMPT seconds of `since`."""
    _, alive = psutil.wait_procs(processes, max(0.0, since + PROMPT - time.monotonic()))
    assert not alive


class Running:
    """A simulation in the middle of its training."""

    def __init__(self, start: Start, folder: Path, data: Path) -> None:
        self.run = folder / "run"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        config = world.write_settings(folder / "settings.toml", data)
        fixed = ["simulate", "-c", str(config), "--method", "orth", "--release", "gradient", "--out", str(self.run)]
        more = ["--set", "training.epochs=50", "--set", "training.batch_size=4"]  # 1,750 steps
        self.launcher = start("launcher", [*fixed, *more], {"TMPDIR": str(self.temporary)})
        steps = self.run / "developer" / "steps.csv"
        commands.until(lambda: steps.exists() and len(steps.read_text().splitlines()) > 2)
        self.parties = {role: psutil.Process(int(commands.pid_file(self.run / role).read_text())) for role in ROLES}
        assert all(party.is_running() for party in self.parties.values())

    def errors(self, role: str) -> list[str]:
        return Command(self.launcher.process, self.run / role / "log.txt").errors


@pytest.fixture
def running(start: Start, tmp_path: Path, data: Path) -> Running:
    return Running(start, tmp_path, data)


@pytest.mark.parametrize("killed", ROLES)
def test_a_killed_party_ends_the_run(running: Running, killed: str) -> None:
    began = time.monotonic()
    running.parties[killed].kill()
    assert running.launcher.wait(PROMPT) == 1
    ended(list(running.parties.values()), began)
    (last,) = running.launcher.errors
    assert last.startswith(f"the run failed: the {killed} was killed by SIGKILL")
    for role in ROLES:
        said = said_for_developer(last) if role == "developer" else running.errors(role)
        assert len(said) == (role != killed), said
        assert all("went away" in text for text in said)


def test_a_party_that_hangs_is_ended_too(running: Running) -> None:
    began = time.monotonic()
    running.parties["auditor"].suspend()
    running.parties["dealer"].kill()
    assert running.launcher.wait(PROMPT) == 1
    ended(list(running.parties.values()), began)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stopped_launcher_leaves_nothing_behind(running: Running, number: signal.Signals) -> None:
    began = time.monotonic()
    os.kill(running.launcher.process.pid or 0, number)
    assert running.launcher.wait(PROMPT) == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    ended(list(running.parties.values()), began)
    for role in ("auditor", "dealer"):
        assert len(running.errors(role)) == 1
    if number != signal.SIGKILL:
        assert "stopped" in running.launcher.errors[-1]
        assert not list(running.temporary.iterdir())  # the keys of the run


@pytest.mark.parametrize("role", ROLES)
def test_a_peer_that_never_starts(start: Start, tmp_path: Path, data: Path, deployment: Deployment, role: str) -> None:
    own = {"developer": ["--method", "orth", "--release", "gradient"], "dealer": []}.get(
        role, ["--policy", str(world.write_policy(tmp_path / "policy.toml"))]
    )
    config = world.write_settings(tmp_path / "settings.toml", data)
    arguments = deployment.party(role, config, tmp_path / "run", *own, network__start_timeout_seconds=1)
    party = start(role, arguments)
    assert party.wait() == 1
    (error,) = party.errors
    missing = {"developer": "auditor at 127.0.0.1", "auditor": "developer", "dealer": "developer or auditor"}[role]
    assert missing in error
    assert "1 s" in error
    assert "start it" in error


@pytest.mark.parametrize("role", ["auditor", "dealer"])
def test_a_port_in_use(start: Start, tmp_path: Path, data: Path, deployment: Deployment, role: str) -> None:
    own = ["--policy", str(world.write_policy(tmp_path / "policy.toml"))] if role == "auditor" else []
    config = world.write_settings(tmp_path / "settings.toml", data)
    with tls.listen(deployment.addresses[role]):
        party = start(role, deployment.party(role, config, tmp_path / "run", *own))
        assert party.wait() == 1
    (error,) = party.errors
    assert "another program uses this port" in error


# What the auditor's side has otherwise, and what both sides then say.
DISAGREEMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "weight decay": ({"adversary__weight_decay": 0.06}, "different settings"),
    "criterion": ({"fairness__criterion": "parity"}, "different settings"),
    "columns": ({"attributes__columns": '["SkinTone"]'}, "different settings"),
    "epsilon": ({"privacy__epsilon": 1.0}, "different settings"),
    "ids": ({}, "200 record ids are not the 200 of the"),
    "policy": ({}, "release 'gradient' is not allowed by the auditor's policy"),
}


@pytest.mark.parametrize("difference", DISAGREEMENTS)
def test_parties_that_do_not_agree(
    start: Start, tmp_path: Path, data: Path, deployment: Deployment, difference: str
) -> None:
    settings, said = DISAGREEMENTS[difference]
    config = world.write_settings(tmp_path / "settings.toml", data)
    policy = world.write_policy(tmp_path / "policy.toml", ["moment"] if difference == "policy" else ["gradient"])
    if difference == "ids":
        table = (data / "auditor" / "attributes.csv").read_text().replace("\nr000007,", "\nr999999,")
        (tmp_path / "other.csv").write_text(table)
        settings = {"attributes__file": tmp_path / "other.csv"}
    training = ["--method", "adv", "--release", "gradient"]
    parties = {
        "auditor": deployment.party("auditor", config, tmp_path / "a", "--policy", str(policy), **settings),
        "developer": deployment.party("developer", config, tmp_path / "d", *training),
    }
    started = [start(role, arguments) for role, arguments in parties.items()]
    for party in started:
        assert party.wait() == 1
        (error,) = party.errors
        assert said in error
        assert "r000007" not in party.text


UNUSABLE = {
    ("unl", "moment", "privacy.refresh=epoch"): 'write privacy.refresh = "once"',
    ("orth-adapter", "adapter-gradient", "training.delayed=true"): "set training.delayed = false",
    ("orth", "moment", "training.device=tpu:9"): 'write "auto" or "cpu"',
    ("adv", "moment", "adversary.learning_rate=30"): "lower `adversary.learning_rate`",
}


@pytest.mark.parametrize(("method", "release", "setting"), UNUSABLE)
def test_what_training_refuses_is_refused_before_anybody_is_asked(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], method: str, release: str, setting: str
) -> None:
    """No network is set: asking would fail of that."""
    config = world.write_settings(tmp_path / "settings.toml", data)
    arguments = ["-c", str(config), "--method", method, "--release", release, "--set", setting]
    assert secure_fair(["party", "developer", *arguments, "--out", str(tmp_path / "run")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert UNUSABLE[method, release, setting] in said
    assert not (tmp_path / "run").exists()


def test_an_auditor_of_another_protocol(start: Start, tmp_path: Path, data: Path, deployment: Deployment) -> None:
    """The other direction, a developer of another protocol, is among the refusals."""
    config = world.write_settings(tmp_path / "settings.toml", data)
    identity = deployment.identities["auditor"]
    with Acceptor(tls.listen(deployment.addresses["auditor"]), tls.server_context(identity)) as acceptor:
        party = start(
            "developer", deployment.party("developer", config, tmp_path, "--method", "orth", "--release", "moment")
        )
        _, sock = acceptor.accept({"developer": deployment.fingerprints["developer"]}, PATIENCE)
        with Connection(sock, "developer") as developer:
            developer.receive(Kind.HELLO)
            developer.send(Kind.HELLO, AuditorHello(1, "", 200, (2,), False).encode())
            with pytest.raises(PeerRefusedError, match=f"auditor speaks protocol 1, we {PROTOCOL_VERSION}"):
                developer.receive(Kind.HELLO)
    assert party.wait() == 1
    assert party.errors == [f"auditor speaks protocol 1, we {PROTOCOL_VERSION}; use one release on both sides"]
