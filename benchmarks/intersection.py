"""`python -m benchmarks.intersection FILE`: how long two parties take to find the records that both have.

Two processes over TLS on loopback; half of each list is common, and the auditor's policy allows it. Both processes have
the cores of one machine: on hosts of their own, each with a core or more, it takes no longer.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import environment, processes
from parties.intersection import auditor_intersection, developer_intersection
from secure_fair.files import write_json
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.party import Party

VERSION = 1
RECORDS = (10_000, 160_000)


def make(file: Path, records: Sequence[int] = RECORDS) -> dict[str, Any]:
    """Measure, write FILE and return what it holds."""
    command = f"python -m benchmarks.intersection {file}"
    rows = [measured(count) for count in records]
    found = {"version": VERSION, "rows": rows, "environment": {**environment.describe(), "command": command}}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, found)
    return found


def measured(records: int) -> dict[str, Any]:
    """Lists of so many ids each: seconds until both know the common ones, bytes of the developer, MiB added."""
    outcomes = processes.run(
        Plan(()),
        {"developer": functools.partial(_developer, records), "auditor": functools.partial(_auditor, records)},
    )
    sent, received, common = outcomes["developer"].result
    assert common == outcomes["auditor"].result == records // 2  # noqa: S101
    return {
        "records": records,
        "common": common,
        "seconds": max(outcome.seconds for outcome in outcomes.values()),
        "bytes_sent": sent,
        "bytes_received": received,
        "mebibytes": max(each.memory_peak - each.memory_at_start for each in outcomes.values()) / 2**20,
    }


def _ids(start: int, count: int) -> list[str]:
    return [f"{number:09d}" for number in range(start, start + count)]


def _developer(records: int, party: Party) -> tuple[int, int, int]:
    auditor = party.peer
    found = developer_intersection(auditor, _ids(0, records), records)
    return auditor.bytes_sent, auditor.bytes_received, len(found)


def _auditor(records: int, party: Party) -> int:
    return len(auditor_intersection(party.peer, _ids(records - records // 2, records), records, lambda _: None))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
