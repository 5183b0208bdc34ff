"""What a result depends on besides the code: versions, commit, machine and command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from secure_fair.training.summary import commit, versions


def describe() -> dict[str, Any]:
    """Of this process; the command is the one that was typed, without the program's own folder."""
    return {
        "command": shlex.join(["secure-fair", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),  # of the last 1, 5 and 15 minutes, the benchmark's own with it
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    """The model's name where Linux tells it, else what Python knows."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
