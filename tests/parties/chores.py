"""Jobs for workers, in a module that a new process imports fast."""

from __future__ import annotations

import os
import signal
import stat
import time
from contextlib import suppress
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
    if name == "mute":  # as if it had died, and it lives
        for descriptor in [int(path.name) for path in Path("/dev/fd").iterdir()]:
            with suppress(OSError):  # the listing's own is closed already
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    os.close(descriptor)
        time.sleep(600)
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
