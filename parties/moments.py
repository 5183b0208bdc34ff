"""Public facts of a run's `moment` releases, from which both parties derive shapes, noise and cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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


def can_reuse(settings: Settings, release: str, out: Path) -> bool:
    """Whether a resumed run has its private release behind it."""
    once = release == "randomized-response" or (release == "moment" and settings.privacy.refresh == "once")
    return once and (out / SOFT_FILE).exists()


def lost_session(settings: Settings, release: str, out: Path) -> str:
    """The session whose moment was asked for and never arrived, or nothing."""
    if release != "moment" or settings.privacy.refresh != "once" or not (out / SHARE_FILE).exists():
        return ""
    with np.load(out / SHARE_FILE, allow_pickle=False) as arrays:
        return str(arrays["session"])
