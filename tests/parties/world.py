"""What the tests of the parties share: a small data set, processes that start fast, and runs that are made once.

Importing a model takes a process seconds. So commands run in processes forked from a server that has imported it
already; what needs processes that start from nothing (the launcher's own, three users) says so.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import fcntl
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import psutil
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from parties import launch
from secure_fair.cli.main import run
from secure_fair.data import celeba, faces, prepare
from secure_fair.mpc.kinds import Kind
from secure_fair.transport import certs, tls
from secure_fair.transport.frames import Connection

PATIENCE = 60.0  # seconds; a command that takes longer hangs, also on a machine that has other things to do
PROMPT = 10.0  # seconds within which all parties must have ended after one has failed
ROLES = ("dealer", "auditor", "developer")
TRAIN, TEST, BATCH = 140, 40, 32  # of 200 faces; the last batch of an epoch has 12
CLONE_NEWNET = 0x40000000  # linux/sched.h
PRELOAD = (
    "torch.distributed.launcher.api",
    "parties.simulation",
    "parties.developer",
    "parties.auditor",
    "parties.dealer",
    "parties.audit_developer",
    "parties.audit_auditor",
    "parties.audit_simulation",
    "secure_fair.training.baseline",
    # what a party loads late, from folders that another user may not enter
    "secure_fair.cli.party",
    "secure_fair.cli.audit",
    "pyarrow.csv",
    "pyarrow.parquet",
    "scipy.optimize",
    "PIL.JpegImagePlugin",
    "torch.utils.serialization.config",
    "encodings.idna",
    "encodings.utf_8_sig",
)


def server() -> ForkServerContext:
    """The server; it starts with the first process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    return context


@dataclass
class Command:
    """A process that runs `secure-fair ARGUMENTS`, and what it has printed."""

    process: BaseProcess
    log: Path

    @staticmethod
    def start(
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        fresh: bool = False,
        user: int | None = None,
        netns: str | None = None,
        ranks: int = 1,
    ) -> Command:
        """`fresh`: a launcher's parties are processes that start from nothing, as they do outside of tests.

        user: whom the process becomes for good, before it has read an argument; the code, it has from the server.
        netns: the network namespace that it moves to. ranks: as `torchrun` starts so many of it, forked.
        """
        own = (tuple(arguments), log, dict(environment or {}), fresh, user, netns, ranks)
        process = server().Process(target=_command, args=own)
        process.start()
        return Command(process, log)

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit status; negative for a signal."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            raise TimeoutError(f"still running after {seconds:g} s: {self.text}")
        return self.process.exitcode

    def kill(self) -> None:
        """With all that it has started."""
        for child in descendants(self.process.pid):
            child.kill()
        self.process.kill()
        self.process.join(PATIENCE)

    @property
    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    @property
    def errors(self) -> list[str]:
        """What it said was wrong, without the lines' first word."""
        return [line.removeprefix("error: ") for line in self.text.splitlines() if line.startswith("error: ")]


def _command(
    arguments: tuple[str, ...],
    log: Path,
    environment: dict[str, str],
    fresh: bool,
    user: int | None,
    netns: str | None,
    ranks: int,
) -> None:
    if not fresh:
        own = {"Popen": Forked, "DEVNULL": subprocess.DEVNULL, "TimeoutExpired": subprocess.TimeoutExpired}
        launch.subprocess = SimpleNamespace(**own)  # type: ignore[assignment, attr-defined]
    if "TAP" in environment:
        tap(Path(environment["TAP"]))
    if "FRAMES" in environment:
        record_frames(Path(environment["FRAMES"]))
    tempfile.tempdir = None  # asked for again, since TMPDIR may be new
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    if netns is not None:
        enter(netns)
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if ranks > 1:
        _torchrun(arguments, ranks)
    else:
        sys.argv = ["secure-fair", *arguments]  # as the installed program has it
        sys.exit(run(arguments))


def _torchrun(arguments: tuple[str, ...], ranks: int) -> None:
    """What `torchrun --nproc-per-node RANKS` does, with processes that have imported all already."""
    config = LaunchConfig(
        1,
        1,
        ranks,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="fork",
        run_id="tests",
    )
    elastic_launch(config, _rank)(arguments)


def _rank(arguments: tuple[str, ...]) -> None:
    for number in (
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
    ):  # the launcher's own, which a new program would not have
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = run(arguments)
    if status:
        sys.exit(status)


def enter(netns: str) -> None:
    """Move this process to a network namespace that `ip netns add` has made."""
    with (Path("/var/run/netns") / netns).open() as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns", netns)


def tap(file: Path) -> None:
    """Append what this process and its children receive from an auditor inside of steps to FILE.KIND."""
    receive = Connection.receive

    def recording(
        self: Connection,
        kind: int,
        size: int | None = None,
        max_size: int | None = None,
        *,
        within: float | None = None,
    ) -> bytearray:
        body = receive(self, kind, size, max_size, within=within)
        if self.peer == "auditor" and kind in (Kind.MASKED, Kind.OPEN):
            with file.with_suffix(f".{Kind(kind).name}").open("ab") as stream:
                stream.write(body)
        return body

    Connection.receive = recording  # type: ignore[method-assign]


def record_frames(file: Path) -> None:
    """Append a line `peer direction kind size` to FILE for each frame between this process and developer or auditor."""
    receive, send = Connection.receive, Connection.send

    def note(connection: Connection, direction: str, kind: int, size: int) -> None:
        if connection.peer in ("auditor", "developer"):
            with file.open("a") as stream:
                stream.write(f"{connection.peer} {direction} {Kind(kind).name} {size}\n")

    def receiving(
        self: Connection,
        kind: int,
        size: int | None = None,
        max_size: int | None = None,
        *,
        within: float | None = None,
    ) -> bytearray:
        body = receive(self, kind, size, max_size, within=within)
        note(self, "received", kind, len(body))
        return body

    def sending(self: Connection, kind: int, *buffers: bytes | bytearray | memoryview) -> None:
        note(self, "sent", kind, sum(memoryview(buffer).nbytes for buffer in buffers))
        send(self, kind, *buffers)

    Connection.receive = receiving  # type: ignore[method-assign]
    Connection.send = sending  # type: ignore[method-assign]


def pid_file(party: Path) -> Path:
    """Of the party that writes to this folder."""
    return party.with_name(f"{party.name}.pid")


class Forked:
    """Takes the place of `subprocess.Popen` in the launcher: the same command line, without importing all anew."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int,
        stdout: int | IO[bytes],
        stderr: IO[bytes] | None,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        start_new_session: bool,
    ) -> None:
        assert (stdin, start_new_session) == (subprocess.DEVNULL, True)
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid:
            pid_file(Path(command[command.index("--out") + 1])).write_text(str(self.pid))
            return
        os.setsid()
        for number, target in ((1, stdout), (2, 2 if stderr is None else stderr)):
            os.dup2(target if isinstance(target, int) else target.fileno(), number)
        for descriptor in [int(path.name) for path in Path("/dev/fd").iterdir()]:
            if descriptor > 2 and descriptor not in pass_fds:  # as at the start of a new program
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        os.environ.clear()
        os.environ.update(env)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os._exit(run(command[command.index("secure_fair") + 1 :]))

    def poll(self) -> int | None:
        if self._status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if ended else None
        return self._status

    def wait(self, timeout: float = PATIENCE) -> int | None:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("party", timeout)
            time.sleep(0.01)
        return self.poll()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def done(
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    fresh: bool = False,
    patience: float = PATIENCE,
) -> str:
    """Run a command to its good end and return what it printed."""
    command = Command.start(arguments, log, environment, fresh=fresh)
    try:
        code = command.wait(patience)
    finally:
        command.kill()
    assert code == 0, command.text
    return command.text


def descendants(pid: int | None) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


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
