"""Public facts of a run's `moment` releases, from which both parties derive shapes, noise and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from parties.continuation import COMMON_FILE
from secure_fair.files import replacing
from secure_fair.releases.moment import MomentPlan
from secure_fair.settings import Settings

SHARE_FILE = "moment_share.npz"  # in the developer's folder, while the auditor's share is awaited
SOFT_FILE = "soft_attributes.npz"  # in the developer's folder: what a private release has taught it


def moment_plan(
    settings: Settings, groups: tuple[int, ...], classes: int, features: int, weighted: bool, index: int
) -> MomentPlan:
    """Public facts of release number `index` of a run; both parties derive them.

    The first release has frozen features [n, d'] only: the adapter is at its zero start, so the current representation
    is the same. Later ones (refresh = "epoch") have both.
    """
    blocks = 1 if index == 0 else 2
    within = classes if settings.fairness.criterion == "odds" else 1
    return MomentPlan(groups, within, blocks * features + 1, blocks, settings.privacy.clip, weighted)


def releases(settings: Settings) -> int:
    """How many moments a run releases; its epsilon covers all of them."""
    return settings.training.epochs if settings.privacy.refresh == "epoch" else 1


def arrived(out: Path) -> int:
    """How many of its private releases a run in this folder has received."""
    try:
        with np.load(out / SOFT_FILE, allow_pickle=False) as arrays:
            return int(arrays["index"]) + 1
    except FileNotFoundError:
        return 0


def forget(out: Path) -> None:
    """Drop what an earlier run in this folder has received: a new run asks anew."""
    for name in (SOFT_FILE, SHARE_FILE, COMMON_FILE):
        (out / name).unlink(missing_ok=True)


def can_reuse(settings: Settings, release: str, out: Path) -> bool:
    """Whether a resumed run has its private releases behind it."""
    due = {"moment": releases(settings), "randomized-response": 1, "predictor": 1}
    return release in due and arrived(out) == due[release]


def lost_session(out: Path) -> str:
    """The session whose moment was asked for and never arrived, or nothing."""
    try:
        with np.load(out / SHARE_FILE, allow_pickle=False) as arrays:
            return str(arrays["session"]) if int(arrays["index"]) == arrived(out) else ""
    except FileNotFoundError:
        return ""


def save_arrays(file: Path, **arrays: Any) -> None:
    """Whole or not at all."""
    with replacing(file) as partial, partial.open("wb") as stream:
        np.savez(stream, **arrays)
