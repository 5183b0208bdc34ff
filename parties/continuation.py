"""What a run that asks the auditor in every step needs to be continued: its name, and the auditor's checkpoints of it.

Each party keeps its own state only: the developer its model and its share of an adversary, the auditor its share. No
mask is kept. A continued run starts from the greatest step that both have a checkpoint of, in a new session of the
dealer, with the shares re-randomised: a share stolen before and one stolen after do not fit each other.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from parties.handshake import AgreedRun
from secure_fair import checkpoint
from secure_fair.errors import RefusedError, RunError
from secure_fair.files import write_text

COMMON_FILE = "common_ids.json"  # in the developer's folder
NAME_FILE = "run_name"  # in the developer's folder
CHECKPOINTS_FOLDER = "checkpoints"  # in the auditor's folder, one folder a run
KEPT_RUNS = 16  # interrupted runs whose checkpoints the auditor keeps


def run_name(out: Path, *, resume: bool) -> str:
    """128 random bits that name a run to the auditor, and nothing else; those of the run in `out` when it goes on."""
    file = out / NAME_FILE
    if resume and file.exists():
        return file.read_text()
    name = secrets.token_hex(16)
    write_text(file, name)
    return name


def common_ids(folder: Path) -> tuple[str, ...] | None:
    """The ids that `keep_common` has written there; None: nothing was intersected."""
    try:
        return tuple(json.loads((folder / COMMON_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def keep_common(folder: Path, ids: tuple[str, ...]) -> None:
    """Keep the common ids: a resumed run, and one that reuses a release, are about the same records."""
    write_text(folder / COMMON_FILE, json.dumps(ids))


class AuditorCheckpoints:
    """The auditor's checkpoints of one run: its shares of what the method has learned. No attribute, no mask."""

    def __init__(self, base: Path, run: AgreedRun, ids: tuple[str, ...]) -> None:
        """ids: in the agreed order. Who knows the name of a run, 128 random bits, may continue it."""
        hello = run.hello
        self._base = base
        self._folder = base / hashlib.sha256(hello.run.encode()).hexdigest()[:32]
        changing = ("nonce", "steps", "first", "earlier", "checkpoint_steps")
        facts = {name: value for name, value in asdict(hello).items() if name not in changing}
        records = hashlib.sha256("\n".join(ids[position] for position in run.train).encode()).hexdigest()
        self._description = json.dumps({**facts, "train ids": records}, sort_keys=True)

    def share(self, theirs: tuple[int, ...]) -> tuple[int, dict[str, torch.Tensor]]:
        """The greatest step that both sides have a checkpoint of (0: the start), and our state there.

        Later ones of ours are dropped: they belong to an attempt that the developer's do not. Raises RefusedError when
        the run of that name was about other records or numbers.
        """
        try:
            step = max(set(checkpoint.steps(self._folder, self._description)) & set(theirs), default=0)
            checkpoint.discard_after(self._folder, step)
            state = checkpoint.load(self._folder, self._description) if step else None
        except RunError:
            raise RefusedError(
                "the run to be resumed was begun with other records or settings; start a new one"
            ) from None
        return step, {} if state is None else state["term"]

    def save(self, step: int, state: dict[str, torch.Tensor]) -> None:
        """Keep our state after so many steps; of other runs, the newest only."""
        checkpoint.save(self._folder, step, {"run": self._description, "step": step, "term": state})
        runs = sorted(self._base.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for old in runs[KEPT_RUNS:]:
            shutil.rmtree(old)

    def remove(self) -> None:
        """The run is over."""
        shutil.rmtree(self._folder, ignore_errors=True)
