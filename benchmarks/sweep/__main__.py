"""python -m benchmarks.sweep --out FILE --work FOLDER

Trains every arm for every seed, one after the other. FOLDER keeps the faces and a log of what is finished, which is
not done again: the command may be interrupted and given again. With `--only SEED` for `--out FILE` it trains that seed
and writes no FILE, so that seeds can be trained beside each other; with `--table-only FILE` it trains nothing and makes
FILE of what is finished.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.sweep import choice
from benchmarks.sweep.grid import Sweep
from benchmarks.sweep.trainings import AUDITOR_IMAGES, SHARES, Seed
from secure_fair.cli.demo import CORRELATION, OVERLAP
from secure_fair.errors import RunError, SecureFairError
from secure_fair.files import write_json

VERSION = 1


def write(sweep: Sweep, file: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """FILE of these rows, which it returns. Raises RunError while no seed is complete."""
    for axis in sweep.axes:
        if not choice.complete(sweep, axis, rows):
            raise RunError(f"{axis.method}, {axis.setting}: no seed has every value yet; let the sweep run on")
    command = shlex.join(["python", "-m", "benchmarks.sweep", *sys.argv[1:]])
    found = {
        "version": VERSION,
        **_about(sweep),
        "rule": choice.RULE,
        "choices": choice.choices(sweep, rows),
        "lines": choice.lines(sweep, rows),
        "rows": rows,
        "environment": {**environment.describe(), "command": command},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, found)
    return found


def run(sweep: Sweep, number: int, work: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Train what is missing of one seed; returns its rows. The log is written after each training."""
    work.mkdir(parents=True, exist_ok=True)
    done = {row["arm"]: row for row in finished(sweep, number, work)}
    missing = [arm for arm in sweep.arms() if arm.name not in done]
    if not missing:
        return list(done.values())
    seed = Seed(sweep, number, work)
    for count, arm in enumerate(missing, start=1):
        row = {"seed": number, "arm": arm.name, **seed.train(arm)}
        done[arm.name] = row
        write_json(_log(work, number), {**_about(sweep), "rows": list(done.values())})
        bias, utility = (row["val"][metric] for metric in (choice.BIAS, choice.UTILITY))
        say(f"seed {number}, {count} of {len(missing)}: {arm.name}: {utility:.3f}, {bias:.3f}")
    return list(done.values())


def finished(sweep: Sweep, number: int, work: Path) -> list[dict[str, Any]]:
    """The rows of one seed that are there. Raises RunError for those of another sweep."""
    about, log = _about(sweep), _log(work, number)
    kept = json.loads(log.read_text()) if log.exists() else {**about, "rows": []}
    if {name: kept[name] for name in about} != about:
        raise RunError(f"{work}: holds a sweep of other images or another base; name another --work")
    own = {arm.name for arm in sweep.arms()}
    return [row for row in kept["rows"] if row["arm"] in own]


def _log(work: Path, number: int) -> Path:
    return work / f"seed-{number}.json"


def _about(sweep: Sweep) -> dict[str, Any]:
    """What all trainings have in common."""
    faces = {
        "count": sweep.images,
        "correlation": CORRELATION,
        "overlap": OVERLAP,
        "shares": list(SHARES),
        "auditor_images": AUDITOR_IMAGES,
    }
    return {"faces": faces, "base": dict(sweep.base)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=Sweep.seeds)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="FILE")
    what.add_argument("--table-only", type=Path, metavar="FILE")
    what.add_argument("--only", type=int, metavar="SEED")
    chosen = parser.parse_args()
    sweep = Sweep(seeds=chosen.seeds)
    try:
        if chosen.only is not None:
            run(sweep, chosen.only, chosen.work, _say)
            return
        rows = []
        for number in range(sweep.seeds):
            given = (sweep, number, chosen.work)
            rows += finished(*given) if chosen.table_only else run(*given, _say)
        write(sweep, chosen.table_only or chosen.out, rows)
    except SecureFairError as error:
        parser.error(str(error))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
