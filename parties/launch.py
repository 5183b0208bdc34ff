"""Three party processes on one machine, over the same transport and messages as on three hosts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any, Protocol

from parties.links import ENDED, PARENT_PIPE
from secure_fair.errors import TOLD, CrashedRunError, InterruptedRunError, RunError
from secure_fair.transport import certs, tls

WITHOUT_DEALER = ("randomized-response", "adapter", "predictor")
ROLES = ("dealer", "auditor", "developer")
PEER_SECONDS = 4.0  # a party whose peer failed has so long to say so
DEALER_SECONDS = 2.0  # the dealer has so long to end when the other two are done
STOP_SECONDS = 3.0  # between asking the parties to end and ending them
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Launch:
    """One simulation: the arguments that every party gets, and those of one."""

    run: Path
    config: Path
    overrides: tuple[str, ...]
    policy: Path
    method: str
    release: str
    resume: bool = False
    reuse: Path | None = None
    alone: bool = False  # the developer needs no peers

    def roles(self) -> list[str]:
        """Randomized response needs no dealer, and a developer with nothing to ask needs nobody."""
        if self.alone:
            return ["developer"]
        return [role for role in ROLES if role != "dealer" or self.release not in WITHOUT_DEALER]

    def command(self, role: str, network: Sequence[str]) -> list[str]:
        """The command line of a party."""
        own = {
            "developer": [
                "--method",
                self.method,
                "--release",
                self.release,
                *(["--resume"] if self.resume else []),
                *(["--reuse", str(self.reuse)] if self.reuse else []),
            ],
            "auditor": ["--policy", str(self.policy)],
            "dealer": [],
        }[role]
        settings = [part for override in (*self.overrides, *network) for part in ("--set", override)]
        base = [sys.executable, "-m", "secure_fair", "party", role, "-c", str(self.config)]
        return [*base, "--out", str(self.run / role), *own, *settings]


class Launchable(Protocol):
    """What `run_parties` starts: who takes part, with which command line, and the folder of their logs."""

    @property
    def run(self) -> Path: ...

    def roles(self) -> list[str]: ...

    def command(self, role: str, network: Sequence[str]) -> list[str]: ...


def run_parties(launch: Launchable, *, host: str = "127.0.0.1") -> None:
    """Run the parties to their end. Raises RunError with the first failure; no process outlives the call.

    In the main thread SIGTERM and SIGHUP raise InterruptedRunError meanwhile, so that the parties are ended in order.
    """
    with _started(launch, launch.roles(), host) as (parties, _):
        _wait(parties)


@contextmanager
def peers(launch: Launchable, *, host: str = "127.0.0.1") -> Iterator[tuple[list[str], Callable[[], None]]]:
    """Auditor and dealer, for a developer that is this process: its [network] settings as overrides, and a function
    that waits for their good end. No process outlives the block; raises as `run_parties`.
    """
    others = [role for role in launch.roles() if role != "developer"]
    with _started(launch, others, host) as (parties, network):
        yield network["developer"], lambda: _wait(parties)


@contextmanager
def _started(
    launch: Launchable, roles: Sequence[str], host: str
) -> Iterator[tuple[dict[str, _Process], dict[str, list[str]]]]:
    """These roles as processes, and the network settings of all."""
    with (
        _stoppable(),
        tempfile.TemporaryDirectory(prefix="secure-fair-") as folder,
        _sockets(host) as sockets,
    ):
        network = _network(Path(folder), host, sockets)
        parties: dict[str, _Process] = {}
        alive, lifeline = os.pipe()
        try:
            for role in roles:
                listener = sockets.get(role)
                parties[role] = _Process.start(launch, role, network[role], listener, alive, Path(folder))
            os.close(alive)
            for listener in sockets.values():
                listener.close()  # the party's own copy is what serves
            yield parties, network
        finally:
            _stop(parties.values())
            os.close(lifeline)


@dataclass
class _Process:
    role: str
    popen: subprocess.Popen[bytes]
    log: Path
    earlier: int  # bytes of the log that are of earlier attempts
    stream: IO[bytes] | None

    @staticmethod
    def start(
        launch: Launchable, role: str, network: Sequence[str], listener: socket.socket | None, alive: int, told: Path
    ) -> _Process:
        """The developer shares our terminal for its progress; the others write to their logs.

        told: a folder of ours, where the developer says what ended it, for us to say once.
        """
        folder = launch.run / role
        folder.mkdir(parents=True, exist_ok=True)
        log = told / "developer.txt" if role == "developer" else folder / "log.txt"
        earlier = log.stat().st_size if log.exists() else 0
        stream = None if role == "developer" else log.open("ab")
        passed = [alive, *([] if listener is None else [listener.fileno()])]
        popen = subprocess.Popen(
            launch.command(role, network),
            stdin=subprocess.DEVNULL,
            stdout=_terminal() if stream is None else stream,
            stderr=stream,
            pass_fds=passed,
            env={**os.environ, PARENT_PIPE: str(alive), **({TOLD: str(log)} if stream is None else {})},
            start_new_session=True,  # Ctrl-C reaches us; we stop the parties in order
        )
        return _Process(role, popen, log, earlier, stream)

    @property
    def words(self) -> str:
        """What it said last had gone wrong; empty: nothing."""
        text = self.log.read_bytes()[self.earlier :].decode(errors="replace") if self.log.exists() else ""
        lines = [line for line in text.splitlines() if line.startswith("error: ")]
        return lines[-1].removeprefix("error: ") if lines else ""

    def failure(self) -> str | None:
        """Why it ended badly, in its own words where it had any; None while it runs or after a good end."""
        code = self.popen.poll()
        if code is None or code == 0:
            return None
        if code < 0:
            return f"the {self.role} was killed by {signal.Signals(-code).name}"
        where = "its message is above" if self.stream is None else f"see {self.log}"
        return f"the {self.role}: {self.words or f'exit code {code}, {where}'}"


def _terminal() -> int:
    """The descriptor of our standard error, also where sys.stderr is an object of a notebook's that has none."""
    try:
        return sys.stderr.fileno()
    except OSError:
        return 2


def _stop(parties: Collection[_Process]) -> None:
    """End all that still run, together: none waits for another's time to pass."""
    for party in parties:
        party.popen.terminate()  # does nothing to a process that has ended
    deadline = time.monotonic() + STOP_SECONDS
    for party in parties:
        try:
            party.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            party.popen.kill()
            party.popen.wait()
        if party.stream is not None:
            party.stream.close()


def _wait(parties: dict[str, _Process]) -> None:
    """Until all have ended well. After a first failure the others get a moment to notice it themselves."""
    failed: list[str] = []
    served = [party.popen for role, party in parties.items() if role != "dealer"]
    deadline = float("inf")
    while time.monotonic() < deadline:
        for party in parties.values():
            failure = party.failure()
            if failure is not None and failure not in failed:
                failed.append(failure)
                deadline = min(deadline, time.monotonic() + PEER_SECONDS)
        if all(party.popen.poll() is not None for party in parties.values()):
            break
        if all(popen.poll() is not None for popen in served):  # a run that was refused never reached the dealer
            deadline = min(deadline, time.monotonic() + DEALER_SECONDS)
        time.sleep(_POLL_SECONDS)
    if failed:
        # First what may be the reason; not who was only told of it ("auditor: ..."), or that the run has ended.
        failed.sort(key=lambda text: " was killed by " not in text)
        causes = [text.removeprefix("the ") for text in failed]
        said = [text for text in failed if ENDED not in text and not any(f": {cause}" in text for cause in causes)]
        crashed = any(code < 0 or not party.words for party in parties.values() if (code := party.popen.poll()))
        raise (CrashedRunError if crashed else RunError)("the run failed: " + "; ".join(said or failed))


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn the signals that end a process at once into an exception; handlers can be set in the main thread only."""
    before: dict[signal.Signals, Any] = {}

    def on_signal(number: int, _: FrameType | None) -> None:
        raise InterruptedRunError(f"stopped by {signal.Signals(number).name}; all parties have been stopped")

    if threading.current_thread() is threading.main_thread():
        # Somebody else's handler stays, and so does nohup's.
        numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
        before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _sockets(host: str) -> Iterator[dict[str, socket.socket]]:
    """Open ports for those who listen, made here so that no other program can take them in between."""
    sockets: dict[str, socket.socket] = {}
    try:
        for role in ("auditor", "dealer"):
            sockets[role] = tls.listen(f"{host}:0")
        yield sockets
    finally:
        for listener in sockets.values():
            listener.close()


def _network(folder: Path, host: str, sockets: dict[str, socket.socket]) -> dict[str, list[str]]:
    """The [network] settings of each party, as overrides, with a fresh authority for this run only."""
    authority = certs.make_authority(folder)
    files = {role: certs.make_party(folder, role, [host]) for role in ROLES}
    prints = {role: certs.fingerprint(path) for role, path in files.items()}
    addresses = {role: tls.address_of(listener) for role, listener in sockets.items()}
    network = {}
    for role, certificate in files.items():
        values = {"certificate": certificate, "key": certificate.with_suffix(".key"), "ca": authority}
        rows = [f"network.{key}={json.dumps(str(value))}" for key, value in values.items()]
        rows += [f'network.fingerprints.{peer}="{value}"' for peer, value in prints.items() if peer != role]
        rows += [f'network.peers.{peer}="{address}"' for peer, address in addresses.items() if peer != role]
        if role in sockets:
            rows.append(f'network.listen="fd:{sockets[role].fileno()}"')
        network[role] = rows
    return network
