"""The audit benchmark on a small table: real processes, real counts, and claims that can be missed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.audit.results import claims
from secure_fair.cli.bench import bench

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)  # three processes that start from nothing
def test_a_small_benchmark(tmp_path: Path) -> None:
    out = tmp_path / "audit"
    sizes = ["--rows", "400", "--modes", "exact", "--repetitions", "1", "--out", str(out)]
    command = [sys.executable, "-m", "secure_fair", "bench", "audit", *sizes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "audit.json").read_text())
    (row,) = result["rows"]
    assert (row["n"], row["k"], row["mode"], row["max_error"]) == (400, 4, "exact", 0)
    assert row["ms_min"] == row["ms_median"] == row["ms_max"] > 0
    assert row["bytes_sent"] + row["bytes_received"] > row["floor_bytes"]
    assert result["environment"]["command"]
    assert "400 records, exact: bytes a record" in done.stdout
    again = CliRunner().invoke(bench, ["audit", *sizes])  # starts no process: what is finished is kept
    assert again.exit_code == 0, again.output
    assert json.loads((out / "audit.json").read_text())["rows"] == [row]


def test_a_claim_is_missed_when_it_is() -> None:
    row = {
        "n": 1_000_000,
        "mode": "exact",
        "bytes_per_row": 41.0,
        "max_error": 1.0,
        "ms_median": 3001.0,
        "developer_mebibytes": 10.0,
        "auditor_mebibytes": 287.0,
        "total_seconds": 20.0,
    }
    met = _met(row)
    assert met == {
        "bytes a record, both directions": False,
        "largest error of a count": False,
        "seconds of MPC": False,
        "MiB of the developer above imports": True,
        "MiB of the auditor above imports": False,
    }
    noised = _met(row | {"mode": "noised"})
    assert noised == {text: value for text, value in met.items() if text != "largest error of a count"}


def _met(row: dict[str, Any]) -> dict[str, bool]:
    return {claim["text"].partition(": ")[2]: claim["met"] for claim in claims([row])}
