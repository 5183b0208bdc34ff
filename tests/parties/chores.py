"""Jobs for workers, in a module that a new process imports fast."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from secure_fair.errors import SettingsError

PATIENCE = 60.0  # seconds


def work(job: tuple[str, Path], device: str | None) -> float:
    """What a job's name asks for, with a line "DEVICE START END" where it is done."""
    name, folder = job
    began = time.monotonic()
    if name == "wrong":
        raise SettingsError("mend it")
    if name == "odd":
        raise ZeroDivisionError
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "endless":
        (folder / "endless").touch()
        time.sleep(600)
    if name == "patient":  # until it is told to end
        while not (folder / "go").exists() and time.monotonic() < began + PATIENCE:
            time.sleep(0.02)
    else:
        time.sleep(float(name))
    with (folder / "done").open("a") as stream:
        stream.write(f"{device} {began} {time.monotonic()}\n")
    return time.monotonic() - began
