"""Public facts of a run's `moment` releases, from which both parties derive shapes, noise and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parties.arrays import read_arrays
from parties.continuation import COMMON_FILE
from secure_fair.errors import RunError
from secure_fair.releases.moment import MomentPlan
from secure_fair.settings import Settings

SHARE_FILE = "moment_share.npz"  # in the developer's folder, while the auditor's share is awaited
SOFT_FILE = "soft_attributes.npz"  # in the developer's folder: what a private release has taught it
_MEND = (
    "name another run, or remove the file and resume: then the auditor is asked for that release, and debits it, again"
)


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
    found = read_arrays(out / SOFT_FILE, "index", mend=_MEND)
    return 0 if found is None else int(found["index"]) + 1


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
    found = read_arrays(out / SHARE_FILE, "session", "index", "share", mend=_MEND)
    return str(found["session"]) if found is not None and int(found["index"]) == arrived(out) else ""


def soft_arrays(folder: Path, release: str, columns: tuple[str, ...]) -> dict[str, Any]:
    """The soft attributes of an earlier run. Raises RunError unless they are from this release of these columns."""
    file = folder / SOFT_FILE
    found = read_arrays(file, "ids", "split", "soft", "groups", "index", "release", "columns", mend=_MEND)
    if found is None:
        raise RunError(f"{file}: no soft attributes to reuse; name a finished run with a private release")
    made = (str(found["release"]), tuple(str(column) for column in found["columns"]))
    if made != (release, columns):
        there, here = (f"release `{name}` of {', '.join(of) or 'nothing'}" for name, of in (made, (release, columns)))
        raise RunError(f"{file}: from {there}, and this run is about {here}; only the same can be used again")
    return found
