"""python -m benchmarks.sweep --out FILE --work FOLDER

Trains every arm for every seed, one after the other. FOLDER keeps the faces and a log of what is finished, which is
not done again: the command may be interrupted and given again. With `--only SEED` it trains that seed and writes no
FILE, so that seeds can be trained beside each other before they are put together.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.sweep import choice
from benchmarks.sweep.grid import Sweep
from benchmarks.sweep.trainings import AUDITOR_IMAGES, SHARES, Seed
from secure_fair.cli.demo import CORRELATION, OVERLAP
from secure_fair.errors import RunError
from secure_fair.files import write_json

VERSION = 1


def make(sweep: Sweep, file: Path, work: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run what is not finished, write FILE and return what it holds. Raises RunError for another sweep's FOLDER."""
    rows = [row for number in range(sweep.seeds) for row in run(sweep, number, work, say)]
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
    """One seed's rows; its log is written after each training. Raises RunError."""
    work.mkdir(parents=True, exist_ok=True)
    log = work / f"seed-{number}.json"
    about = _about(sweep)
    kept = json.loads(log.read_text()) if log.exists() else {**about, "rows": []}
    if {name: kept[name] for name in about} != about:
        raise RunError(f"{work}: holds a sweep of other images or another base; name another --work")
    done = {row["arm"]: row for row in kept["rows"]}
    arms = sweep.arms()
    missing = [arm for arm in arms if arm.name not in done]
    seed = Seed(sweep, number, work) if missing else None
    for count, arm in enumerate(missing, start=1):
        assert seed is not None  # noqa: S101
        row = {"seed": number, "arm": arm.name, **seed.train(arm)}
        done[arm.name] = row
        write_json(log, {**about, "rows": list(done.values())})
        bias, utility = (row["val"][metric] for metric in (choice.BIAS, choice.UTILITY))
        say(f"seed {number}, {count} of {len(missing)}: {arm.name}: {utility:.3f}, {bias:.3f}")
    return [done[arm.name] for arm in arms]


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
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=Sweep.seeds)
    parser.add_argument("--only", type=int, metavar="SEED")
    chosen = parser.parse_args()
    sweep = Sweep(seeds=chosen.seeds)
    if chosen.only is None:
        make(sweep, chosen.out, chosen.work, _say)
    else:
        run(sweep, chosen.only, chosen.work, _say)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
