"""Every party killed and stalled at random steps, and every run resumed: writes a line a trial as it goes.

    python -m tests.parties.campaign --trials 20 --out benchmarks/results/faults/faults.csv

A file that is there already is continued, so that the campaign can be run in pieces (`--most` trials at a time).
"""

from __future__ import annotations

import argparse
import csv
import random
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from tests.parties import faults, world
from tests.parties.faults import EPOCH, Trial
from tests.parties.world import ROLES

SIGNALS = (signal.SIGKILL, signal.SIGSTOP)
RUNS = (("orth", "gradient"), ("adv", "gradient"), ("orth", "moment"))  # moment: one an epoch
SEED = 11
EPOCHS = {signal.SIGKILL: 3, signal.SIGSTOP: 14}  # a stall must be noticed before the run is over:
PRIVATE = {signal.SIGKILL: 4, signal.SIGSTOP: 40}  # of a run that needs nobody within an epoch, nor in its last one
LAST = {signal.SIGKILL: 2 * EPOCH, signal.SIGSTOP: 4 * EPOCH}  # the run must not be over before the signal comes


class Row(TypedDict):
    """What one trial showed; seconds until the last survivor had ended, with its error."""

    trial: int
    party: str
    signal: str
    method: str
    release: str
    step: int
    seconds: str
    resumed_after: int
    difference: str
    debits: int


def trials(each: int) -> Iterator[tuple[int, str, signal.Signals, str, str, int]]:
    """Number, party, signal, method, release, step: `each` random steps for every party and signal."""
    drawn = random.Random(SEED)
    number = 0
    for index in range(each):
        for role in ROLES:
            for sent in SIGNALS:
                method, release = RUNS[index % len(RUNS)]
                yield number, role, sent, method, release, drawn.randint(1, LAST[sent])
                number += 1


def run(folder: Path, chosen: tuple[int, str, signal.Signals, str, str, int]) -> Row:
    """One trial; an AssertionError says what was not as promised."""
    number, role, sent, method, release, step = chosen
    data = world.prepared(folder, faults.FACES)
    more = ("--set", "privacy.refresh=epoch") if release == "moment" else ()
    epochs = (PRIVATE if release == "moment" else EPOCHS)[sent]
    trial = Trial(folder / str(number), data, method, release, more, epochs)
    hurt = faults.hurt(trial, role, sent, step)
    faults.check(hurt, role, sent)
    faults.resume(trial)
    assert trial.resumed_after() in faults.newest_shared(hurt.steps)
    difference = 0.0
    if release == "gradient":
        uninterrupted = faults.reference(folder, data, method, trial.epochs)
        assert faults.equals(trial, uninterrupted)
        difference = trial.difference(uninterrupted)
        assert trial.debits() == 2  # each attempt
    else:
        opened = len({line["sha256"] for line in trial.disclosed()})
        assert (
            opened == trial.epochs <= trial.debits() <= trial.epochs + 1
        )  # one more if it died between debit and answer
    return Row(
        trial=number,
        party=role,
        signal=sent.name,
        method=method,
        release=release,
        step=hurt.steps,
        seconds=f"{hurt.seconds:.2f}",
        resumed_after=trial.resumed_after(),
        difference=f"{difference:.2g}",
        debits=trial.debits(),
    )


def campaign(folder: Path, out: Path, each: int, most: int) -> int:
    """Run what `out` does not have yet, `most` trials at most; returns how many are left."""
    done = len(out.read_text().splitlines()) - 1 if out.exists() else 0
    left = list(trials(each))[done:]
    with out.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(Row.__annotations__), lineterminator="\n")
        if not done:
            writer.writeheader()
        for chosen in left[:most]:
            writer.writerow(run(folder, chosen))
            stream.flush()
    return max(0, len(left) - most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="random steps for every party and signal")
    parser.add_argument("--most", type=int, default=10**6, help="trials of this call")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="folder that keeps data and reference between calls")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{campaign(folder, chosen.out, chosen.trials, chosen.most)} trials left")  # noqa: T201


if __name__ == "__main__":
    main()
