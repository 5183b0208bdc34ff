"""Checkpoints of a run: whole or absent, the two newest kept, and tied to the settings they were made with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from secure_fair.errors import RunError
from secure_fair.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 1
KEPT = 2  # two parties are at most one checkpoint apart, so two each always have one in common


def due(step: int, every: int, steps_per_epoch: int) -> bool:
    """Whether a checkpoint follows step number `step`, counted from 1: every so many steps, and after each epoch.

    Steps, not seconds: both parties of a secure run have to keep the same ones.
    """
    return step % every == 0 or step % steps_per_epoch == 0


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) as the checkpoint of `step`, then drop all but the two newest."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"step-{step:09d}.pt"
    with replacing(file) as partial, partial.open("wb") as stream:
        torch.save({"version": VERSION, **state}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    for old in _newest_first(folder)[KEPT:]:
        old.unlink()


def load(folder: Path, run: str) -> dict[str, Any] | None:
    """The newest readable state, or None when there is none; `run` is the description that it must carry.

    A damaged file (a full disk, a crash of the machine) is passed over for the one before it. Raises RunError when the
    run was made with other settings, or by another version.
    """
    for state in _readable(folder, run):
        return state
    if _newest_first(folder):
        raise RunError(f"{folder}: no checkpoint can be read; remove the run's folder and start again")
    return None


def steps(folder: Path, run: str) -> tuple[int, ...]:
    """The steps of the readable checkpoints, newest first. Raises RunError as `load` does."""
    return tuple(state["step"] for state in _readable(folder, run))


def discard_after(folder: Path, step: int) -> None:
    """Drop the checkpoints of later steps: what another party does not share must not be continued by chance."""
    for file in _newest_first(folder):
        if _step(file) > step:
            file.unlink()


def _readable(folder: Path, run: str) -> Iterator[dict[str, Any]]:
    for file in _newest_first(folder):
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            version, made_with, _ = state["version"], state["run"], state["step"]
        except Exception:  # noqa: BLE001, S112 (damage makes torch raise anything; whatever it is, there is another file)
            continue
        if version != VERSION:
            raise RunError(f"{file}: a checkpoint of version {version}, not {VERSION}; start the run again")
        if made_with != run:
            raise RunError(
                f"{file}: made with other settings, method or weight; resume with the same ones, or start another run"
            )
        yield state


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)


def _step(file: Path) -> int:
    return int(file.stem.removeprefix("step-"))
