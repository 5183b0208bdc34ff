"""The example of three hosts, run as it stands: its settings, its units, and three network namespaces for hosts."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from secure_fair.transport import certs
from tests.parties.commands import PATIENCE, Command
from tests.parties.world import ROLES, Deployment

EXAMPLE = Path(__file__).parents[2] / "examples" / "three_hosts"
ADDRESSES = {"developer": "10.77.0.1", "auditor": "10.77.0.2", "dealer": "10.77.0.3"}
MODEL = {
    "model.backbone": "demo_vit",
    "model.weights": "random",
    "data.image_size": 48,
    "training.epochs": 1,
    "training.device": "cpu",
    "training.threads": 1,
}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=PATIENCE)


@dataclass(frozen=True)
class Hosts:
    """A network namespace a party, each with one address, on one bridge."""

    prefix: str

    def name(self, role: str) -> str:
        return f"{self.prefix}-{role}"

    def make(self) -> None:
        wire = self.name("wire")
        ip("netns", "add", wire)
        ip("-n", wire, "link", "add", "bridge0", "type", "bridge")
        ip("-n", wire, "link", "set", "bridge0", "up")
        for role, address in ADDRESSES.items():
            host = self.name(role)
            ip("netns", "add", host)
            ip("link", "add", "eth0", "netns", host, "type", "veth", "peer", "name", role, "netns", wire)
            ip("-n", wire, "link", "set", role, "master", "bridge0", "up")
            ip("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up")

    def remove(self) -> None:
        for role in (*ROLES, "wire"):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "delete", self.name(role))


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    made = Hosts(f"sf{os.getpid()}")
    try:
        if shutil.which("ip") is None:
            pytest.skip("needs iproute2's `ip`, to make network namespaces")
        try:
            made.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"needs the right to make network namespaces ({error.stderr.decode().strip()})")
        yield made
    finally:
        if shutil.which("ip") is not None:
            made.remove()


@pytest.fixture
def installed(tmp_path: Path, data: Path, identities: Deployment) -> dict[str, Path]:
    """The folder of each host: what the example's README says it has."""
    folder = identities.identities["developer"].certificate.parent
    prints = {role: certs.fingerprint(folder / f"{role}.crt") for role in ROLES}
    homes = {role: tmp_path / role for role in ROLES}
    for role, home in homes.items():
        (home / "certs").mkdir(parents=True)
        for name in ("ca.crt", f"{role}.crt", f"{role}.key"):
            shutil.copy(folder / name, home / "certs")
        text = (EXAMPLE / f"{role}.toml").read_text()
        for peer, fingerprint in prints.items():
            text = text.replace(f'{peer} = "sha256:..."', f'{peer} = "{fingerprint}"')
        assert "..." not in text
        (home / f"{role}.toml").write_text(text)
    shutil.copy(EXAMPLE / "policy.toml", homes["auditor"])
    for role in ("developer", "auditor"):
        shutil.copytree(data / role, homes[role] / "prepared" / role)
    return homes


def unit(role: str, home: Path) -> list[str]:
    """The command line of the example's unit, with this machine's folders."""
    (line,) = [
        line.removeprefix("ExecStart=")
        for line in (EXAMPLE / f"secure-fair-{role}.service").read_text().splitlines()
        if line.startswith("ExecStart=")
    ]
    program, *arguments = shlex.split(line)
    assert program == "/opt/secure-fair/bin/secure-fair"
    return [
        part.replace("/etc/secure-fair", str(home)).replace("/var/lib/secure-fair", str(home)) for part in arguments
    ]


def test_three_hosts_train_together(hosts: Hosts, installed: dict[str, Path], tmp_path: Path) -> None:
    home = installed["developer"]
    developer = ["party", "developer", "-c", str(home / "developer.toml"), "--method", "orth", "--release", "moment"]
    developer += [
        "--out",
        str(home / "run"),
        *(part for pair in MODEL.items() for part in ("--set", "=".join(map(str, pair)))),
    ]
    lines = {role: unit(role, installed[role]) for role in ("auditor", "dealer")} | {"developer": developer}
    started: dict[str, Command] = {}
    try:
        for role, line in lines.items():
            started[role] = Command.start(line, tmp_path / f"{role}.log", netns=hosts.name(role))
        assert started["developer"].wait() == 0, [command.text for command in started.values()]
        for role in ("auditor", "dealer"):
            started[role].process.terminate()
            assert started[role].wait() == 0
    finally:
        for command in started.values():
            command.kill()
    events = [json.loads(row) for row in (installed["auditor"] / "auditor" / "log.jsonl").read_text().splitlines()]
    assert [row["address"] for row in events if row["event"] == "listening"] == ["10.77.0.2:7400"]
    assert sum(row["event"] == "moment released" for row in events) == 1
    assert (installed["auditor"] / "male.sqlite").exists()
    assert (home / "run" / "adapter").is_dir()


def test_the_units_are_what_systemd_reads() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for role in ("auditor", "dealer"):
        done = subprocess.run(
            ["systemd-analyze", "verify", str(EXAMPLE / f"secure-fair-{role}.service")],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        # The program itself is not installed there on a machine of ours.
        said = [line for line in done.stderr.splitlines() if "secure-fair-" in line]
        assert all("is not executable" in line for line in said), said


def test_the_settings_are_those_of_the_documentation() -> None:
    """Section [network] of docs/deployment.md, apart from the names of the hosts."""
    for role in ROLES:
        network = tomllib.loads((EXAMPLE / f"{role}.toml").read_text())["network"]
        assert ("listen" in network) == (role != "developer")
        assert set(network["fingerprints"]) == set(ROLES) - {role}
        assert all(address.split(":")[0] == ADDRESSES[peer] for peer, address in network.get("peers", {}).items())
