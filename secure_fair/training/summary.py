"""summary.json: what a finished run achieved and cost.

Group metrics need both the developer's predictions and the auditor's table: only a tool that holds both sides (the
plaintext baseline, the launcher of a simulation) may write this file.
"""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secure_fair.fairness import metrics
from secure_fair.fairness.finite import finite
from secure_fair.files import write_json
from secure_fair.training import predictions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secure_fair.data.attributes import AttributeTable
    from secure_fair.settings import Settings

VERSION = 1
PACKAGES = ("secure-fair", "torch", "timm", "peft", "fairlearn", "crypten")


def group_metrics(file: Path, table: AttributeTable, column: str, split: str = "test") -> dict[str, Any]:
    """Metrics of `split` in the predictions.csv `file`, with those of the groups of `column`. Raises DataError."""
    found = predictions.read(file, split)
    groups = table.codes[column][table.rows(found.ids)]
    return metrics.evaluate(found.labels, found.scores, groups, table.categories[column])


def write_summary(
    run: Path,
    *,
    method: str,
    release: str,
    arm: str,
    settings: Settings,
    table: AttributeTable | None,
    cost: Mapping[str, float],
    privacy: Mapping[str, Any] | None = None,
    leakage: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `run`/summary.json from `run`/developer/predictions.csv and return it.

    Without a table (ERM without attributes) there are no group metrics. With several columns `metrics` is about the
    first, and `metrics_by_attribute` has all. NaN is written as null.
    """
    file = run / "developer" / "predictions.csv"
    by_attribute = {column: group_metrics(file, table, column) for column in table.codes} if table else {}
    found = predictions.read(file, "test")
    results = next(iter(by_attribute.values())) if by_attribute else metrics.overall(found.labels, found.scores)
    summary = {
        "version": VERSION,
        "method": method,
        "release": release,
        "arm": arm,
        "seed": settings.training.seed,
        "classes": list(found.classes),
        "metrics": results,
        **({"metrics_by_attribute": by_attribute} if len(by_attribute) > 1 else {}),
        **({"privacy": privacy} if privacy is not None else {}),
        **({"leakage": leakage} if leakage is not None else {}),
        "cost": dict(cost),
        "config": settings.model_dump(mode="json"),
        "versions": versions(),
        "commit": commit(),
    }
    plain: dict[str, Any] = finite(summary)
    write_json(run / "summary.json", plain)
    return plain


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that results depend on; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str | None:
    """The commit of the checkout that this code runs from, "-dirty" when it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
