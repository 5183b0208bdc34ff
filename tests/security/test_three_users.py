"""Three operating-system users, each able to read its own folder only: the strongest separation one machine offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from secure_fair.cli.certs import certs
from secure_fair.transport.certs import fingerprint
from tests.parties import world
from tests.parties.commands import Command
from tests.parties.world import ROLES, Deployment

USERS = {"dealer": 64001, "auditor": 64002, "developer": 64003}


def reads(role: str, file: Path) -> bool:
    done = subprocess.run(
        ["cat", str(file)],
        user=USERS[role],
        group=USERS[role],
        extra_groups=[],
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.returncode == 0


@pytest.fixture
def homes(data: Path) -> Iterator[dict[str, Path]]:
    """A folder of mode 0700 for each user, with what `certs init` and `data prepare` made for it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to run the three parties as three operating-system users")
    # Not below pytest's folders, which only root may enter.
    with tempfile.TemporaryDirectory(prefix="three-users-") as name:
        base = Path(name)
        base.chmod(0o711)
        made = CliRunner().invoke(certs, ["init", str(base / "certs")])
        assert made.exit_code == 0, made.output
        homes = {role: base / role for role in ROLES}
        for role, home in homes.items():
            home.mkdir(mode=0o700)
            for file in ("ca.crt", f"{role}.crt", f"{role}.key"):
                shutil.copy(base / "certs" / file, home)
            if role != "dealer":
                shutil.copytree(data / role, home / role)
        yield homes


def test_three_users_train_together(homes: dict[str, Path], deployment: Deployment) -> None:
    own = {
        "dealer": (),
        "auditor": ("--policy", str(world.write_policy(homes["auditor"] / "policy.toml"))),
        "developer": ("--method", "orth", "--release", "gradient"),
    }
    secrets = {
        "dealer": homes["dealer"] / "dealer.key",
        "auditor": homes["auditor"] / "auditor" / "attributes.csv",
        "developer": homes["developer"] / "developer" / "labels.csv",
    }
    prints = {role: fingerprint(home / f"{role}.crt") for role, home in homes.items()}
    started: dict[str, Command] = {}
    try:
        for role, home in homes.items():
            config = world.write_settings(home / "settings.toml", home)
            network = {"network__certificate": f"{role}.crt", "network__key": f"{role}.key", "network__ca": "ca.crt"}
            network |= {f"network__fingerprints__{peer}": prints[peer] for peer in ROLES if peer != role}
            arguments = deployment.party(role, config, home / "run", *own[role], **network)
            own_files(home, USERS[role])
            started[role] = Command.start(arguments, home / "log.txt", {"HOME": str(home)}, user=USERS[role])
        ended = {role: command.wait() for role, command in started.items()}
        assert ended == dict.fromkeys(ROLES, 0), [command.text for command in started.values()]
    finally:
        for command in started.values():
            command.kill()
    for role, home in homes.items():
        assert {file.stat().st_uid for file in (home / "run").rglob("*")} == {USERS[role]}
        assert [owner for owner, file in secrets.items() if reads(role, file)] == [role]
    assert (homes["developer"] / "run" / "adapter").is_dir()
    assert (homes["auditor"] / "run" / "ledger.sqlite").exists()


def own_files(home: Path, user: int) -> None:
    for path in (home, *home.rglob("*")):
        os.chown(path, user, user)
