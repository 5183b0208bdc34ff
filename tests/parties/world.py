"""What the tests of the parties share: a small data set, addresses and certificates, and runs that are made once."""

from __future__ import annotations

import copy
import fcntl
import os
import shutil
import socket
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from secure_fair.data import celeba, faces, prepare
from secure_fair.transport import certs, tls
from secure_fair.transport.frames import Connection
from tests.parties.commands import PATIENCE, done

PROMPT = 10.0  # seconds within which all parties must have ended after one has failed
ROLES = ("dealer", "auditor", "developer")
TRAIN, TEST, BATCH = 140, 40, 32  # of 200 faces; the last batch of an epoch has 12


def shared_folder(base: Path) -> Path:
    """Of all processes of this test run; `base` is the process's own."""
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def once(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """FOLDER/NAME, made by whichever of several test processes comes first; the others wait for it."""
    made = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            partial = folder / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            partial.rename(made)
    return made


def prepared(folder: Path, count: int = 200) -> Path:
    """Faces as developer's and auditor's folders, with two attributes; 70 % of them to train with."""

    def make(out: Path) -> None:
        drawing = faces.FaceSettings(count=count, seed=1, size=(48, 48), correlation=0.7)
        faces.draw(out / "faces", drawing)
        joins = {faces.SKIN: faces.SKIN_COLUMNS}
        chosen = prepare.PrepareSettings("Smiling", ("Male", faces.SKIN), joins=joins)
        prepare.prepare(celeba.read(out / "faces"), out / "prepared", chosen)

    return once(folder, f"data-{count}", make) / "prepared"


def write_settings(file: Path, data: Path, columns: Sequence[str] = ("Male",)) -> Path:
    file.write_text(f"""
[data]
root = "{data / "developer"}"
image_size = 48
[attributes]
file = "{data / "auditor" / "attributes.csv"}"
columns = [{", ".join(f'"{column}"' for column in columns)}]
[model]
backbone = "demo_vit"
weights = "random"
[training]
epochs = 1
batch_size = {BATCH}
learning_rate = 1e-3
device = "cpu"
threads = 1
""")
    return file


def write_policy(file: Path, releases: Sequence[str] = ("gradient",), **more: Any) -> Path:
    """A policy as an auditor writes it; `more` are keys of its table as TOML text."""
    rows = {"releases": list(releases), "epsilon": 2.0, "delta": 1e-5} | more
    categories = 'Male = ["no", "yes"]\nSkinTone = ["Pale_Skin", "Medium_Skin", "Dark_Skin"]\n'
    text = "".join(f"{key} = {value!r}\n" for key, value in rows.items())
    file.write_text(f"[policy]\n{text}[policy.categories]\n{categories}")
    return file


class Deployment:
    """Certificates, and free addresses, of three parties on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        authority = certs.make_authority(folder / "certs")
        files = {role: certs.make_party(folder / "certs", role, ["127.0.0.1"]) for role in ROLES}
        self.identities = {
            role: tls.Identity(file, file.with_suffix(".key"), authority) for role, file in files.items()
        }
        self.fingerprints = {role: certs.fingerprint(file) for role, file in files.items()}
        self.addresses = self._ports()

    def elsewhere(self) -> Deployment:
        """The same parties at other ports."""
        other = copy.copy(self)
        other.addresses = other._ports()
        return other

    def _ports(self) -> dict[str, str]:
        """Reserved while this object lives: bound, so that nobody is given them, and free for who asks for them."""
        holders = [socket.socket() for _ in range(2)]
        for holder in holders:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            weakref.finalize(self, holder.close)
        names = [tls.address_of(holder) for holder in holders]
        return dict(zip(("auditor", "dealer"), names, strict=True))

    def network(self, role: str) -> dict[str, str]:
        """The [network] section of a party's settings."""
        identity = self.identities[role]
        rows = {"certificate": identity.certificate, "key": identity.key, "ca": identity.ca}
        network = {key: str(path) for key, path in rows.items()} | {
            "start_timeout_seconds": "30",
            "timeout_seconds": "8",
        }
        network |= {f"fingerprints.{peer}": value for peer, value in self.fingerprints.items() if peer != role}
        network |= {f"peers.{peer}": value for peer, value in self.addresses.items() if peer != role}
        return network | ({"listen": self.addresses[role]} if role in self.addresses else {})

    def party(self, role: str, config: Path, out: Path, *own: str, **settings: Any) -> list[str]:
        """The command line of a party; `settings` have a double underscore for the dot."""
        rows = {f"network.{key}": value for key, value in self.network(role).items()}
        rows |= {key.replace("__", "."): value for key, value in settings.items()}
        overrides = [part for key, value in rows.items() for part in ("--set", f"{key}={value}")]
        return ["party", role, "-c", str(config), "--out", str(out), *own, *overrides]

    def connect(self, peer: str) -> Connection:
        """As the developer; the peer may still be on its way."""
        context = tls.client_context(self.identities["developer"])
        pin, busy = self.fingerprints[peer], PATIENCE if peer == "dealer" else 0.0  # a dealer may still end a run
        sock = tls.connect(self.addresses[peer], context, peer, pin, PATIENCE, busy=busy)
        return Connection(sock, peer, timeout_seconds=PATIENCE)


def simulated(
    folder: Path, method: str, release: str, columns: Sequence[str], *more: str, name: str | None = None
) -> Path:
    """A run of `secure-fair simulate`; beside its own files log.txt has what it printed, frames.* what `tap` heard."""

    def make(run: Path) -> None:
        config = write_settings(run.with_suffix(".toml"), prepared(folder), columns)
        fixed = ["simulate", "-c", str(config), "--method", method, "--release", release, "--out", str(run)]
        arguments = [*fixed, "--set", "privacy.store_values=true", *more]
        text = done(arguments, run.with_suffix(".log"), {"TAP": str(run.with_suffix(".frames"))})
        (run / "log.txt").write_text(text)
        for frames in folder.glob(f"{run.stem}.[MO]*"):
            frames.rename(run / f"frames{frames.suffix}")

    return once(folder, name or f"{method}-{release}", make)


def trained(folder: Path, method: str, columns: Sequence[str], *more: str, name: str | None = None) -> Path:
    """A run of `secure-fair train`."""

    def make(run: Path) -> None:
        config = write_settings(run.with_suffix(".toml"), prepared(folder), columns)
        done(["train", "-c", str(config), "--method", method, "--out", str(run), *more], run.with_suffix(".log"))

    return once(folder, name or f"{method}-plaintext", make)
