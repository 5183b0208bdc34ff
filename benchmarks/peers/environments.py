"""Runs the other systems, each in a virtual environment of its own, made where the user says; never in ours."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from secure_fair.errors import RunError

Progress = Callable[[str], None]
INSTALL_SECONDS = 900.0
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Peer:
    """A system: its program in this folder, arguments, and what its environment must hold (nothing: ours will do)."""

    system: str
    program: str
    arguments: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()


PEERS = (
    Peer("crypten-tfp", "crypten_stock.py", ("TFP",)),
    Peer("crypten-ttp", "crypten_stock.py", ("TTP",)),
    Peer("spu", "spu_simulation.py", (), ("spu==0.9.5",)),
    Peer("mpyc", "mpyc_party.py", ("-M3",), ("mpyc==0.11", "numpy==2.4.6", "gmpy2==2.3.2")),
)


@dataclass(frozen=True)
class Answer:
    """A peer's rows and results, or why there are none."""

    rows: Sequence[Mapping[str, Any]]
    results: Sequence[Any]
    versions: Mapping[str, str]
    notes: str
    reason: str | None = None


def ask(peer: Peer, work: Path, task: Path, seconds: float, progress: Progress) -> Answer:
    """Run a peer on the cases in the folder `task`; whatever keeps it from answering becomes the reason."""
    try:
        python = _environment(peer, work, progress)
        progress(f"{peer.system}: running")
        own = [] if peer.requirements else ["-m"]
        program = str(_HERE / peer.program) if peer.requirements else f"benchmarks.peers.{Path(peer.program).stem}"
        _run([python, *own, program, str(task), *peer.arguments], seconds, task, ours=not peer.requirements)
        answer = json.loads((task / f"{peer.system}.json").read_text())
        with np.load(task / f"{peer.system}.npz", allow_pickle=False) as arrays:
            results = [arrays[str(index)] for index in range(len(answer["rows"]))]
    except (RunError, OSError, ValueError, KeyError) as error:
        return Answer((), (), {}, "", f"not runnable, because {_first_line(error)}")
    return Answer(answer["rows"], results, answer["versions"], answer["notes"])


def _environment(peer: Peer, work: Path, progress: Progress) -> str:
    """The interpreter of the peer's environment, which is made when it is not there."""
    if not peer.requirements:
        return sys.executable
    folder = work / f"venv-{peer.system}"
    python = folder / "bin" / "python"
    wanted = "\n".join(peer.requirements)
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        progress(f"{peer.system}: installing {', '.join(peer.requirements)}")
        venv.create(folder, with_pip=True, clear=True)
        _run([str(python), "-m", "pip", "install", "--quiet", *peer.requirements], INSTALL_SECONDS, work)
        stamp.write_text(wanted)
    return str(python)


def _run(command: list[str], seconds: float, folder: Path, *, ours: bool = False) -> None:
    """Run to the end, one thread a process; all that it started ends with it. `ours`: it imports this project."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if ours:
        variables["PYTHONPATH"] = str(_HERE.parents[1])  # before CrypTen's own package `benchmarks`
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**variables, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise RunError(f"it did not end within {seconds:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        lines = [line for line in output.splitlines() if line.strip()]
        raise RunError(lines[-1][:200] if lines else f"it ended with status {process.returncode}")


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
