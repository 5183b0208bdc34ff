"""Results of slow tests that are committed: written where SECURE_FAIR_RECORDS names a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks import environment

VARIABLE = "SECURE_FAIR_RECORDS"


def record(name: str, command: str, result: dict[str, Any]) -> None:
    """FOLDER/NAME.json with the result, and what it depends on."""
    folder = os.environ.get(VARIABLE)
    if folder is not None:
        table = {"version": 1, "environment": {**environment.describe(), "command": command}, "result": result}
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.json").write_text(json.dumps(table, indent=2) + "\n")
