"""Commands in processes that start fast.

Importing a model takes a process seconds. So commands run in processes forked from a server that has imported it
already; what needs processes that start from nothing (the launcher's own, three users) says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
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
from tests.parties.taps import record_frames, tap

PATIENCE = 60.0  # seconds; a command that takes longer hangs, also on a machine that has other things to do
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


Start = Callable[..., Command]  # starts one: what the fixture `start` gives


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


def failed(arguments: Sequence[str], log: Path) -> Command:
    """Run a command that must be refused."""
    command = Command.start(arguments, log)
    try:
        assert command.wait() == 1, command.text
    finally:
        command.kill()
    return command


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
