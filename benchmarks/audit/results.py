"""Audits of drawn tables by three processes on loopback, as a user runs them, and OUT/audit.json."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environment
from parties.audit_simulation import AuditLaunch, settings_text
from parties.launch import run_parties
from secure_fair.audit.predictions import Predictions, read_predictions
from secure_fair.files import write_json
from secure_fair.settings import Settings

VERSION = 1
COLUMNS = (
    "n",
    "k",
    "mode",
    "MPC s (least to most)",
    "total s",
    "rounds",
    "bytes a row",
    "offline",
    "MiB dev",
    "MiB aud",
)
LEVELS = "abcdefghijklmnop"
Row = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Launch(AuditLaunch):
    """The parties of an audit, started through `benchmarks.audit.party`."""

    def command(self, role: str, network: Sequence[str]) -> list[str]:
        python, _, _, *arguments = super().command(role, network)
        return [python, "-m", "benchmarks.audit.party", str(self.run), role, *arguments]


def make(sizes: Sequence[int], k: int, modes: Sequence[str], repetitions: int, out: Path, say: Say) -> dict[str, Any]:
    """Run every size in every mode; write OUT/audit.json and return what it holds."""
    rows = []
    for n in sizes:
        folder = out / "work" / f"{n}"
        settings = _tables(folder, n, k)
        for mode in modes:
            runs = []
            for repetition in range(repetitions):
                say(f"{n} records, {mode}: {repetition + 1} of {repetitions}")
                runs.append(_run(folder / f"{mode}-{repetition}", settings, mode, k))
            rows.append(_row(n, k, mode, runs))
    found = {"version": VERSION, "rows": rows, "claims": claims(rows), "environment": environment.describe()}
    write_json(out / "audit.json", found)
    return found


def claims(rows: Sequence[Row]) -> list[Row]:
    """What this project says of its audits, held against the rows; for four groups."""
    found: list[Row] = []

    def claim(text: str, limit: float, measured: float) -> None:
        found.append({"text": text, "limit": limit, "measured": round(measured, 4), "met": measured <= limit})

    for row in rows:
        what = f"{row['n']} records, {row['mode']}"
        claim(f"{what}: bytes a record, both directions", 40, row["bytes_per_row"])
        if row["mode"] == "exact":
            claim(f"{what}: largest error of a count", 0, row["max_error"])
        if row["n"] >= 1_000_000:
            claim(f"{what}: seconds of MPC", 3, row["ms_median"] / 1000)
            for party in ("developer", "auditor"):
                claim(f"{what}: MiB of the {party} above imports", 300 / 1.048576, row[f"{party}_mebibytes"])
        if row["n"] == 10_000:
            claim(f"{what}: seconds in all without start-up", 1, row["total_seconds"])
    return found


def lines(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """The rows as text."""
    return [
        (
            str(row["n"]),
            str(row["k"]),
            row["mode"],
            f"{row['ms_median'] / 1000:.2f} ({row['ms_min'] / 1000:.2f} to {row['ms_max'] / 1000:.2f})",
            f"{row['total_seconds']:.2f}",
            str(row["rounds"]),
            f"{row['bytes_per_row']:.2f}",
            str(row["offline_bytes"]),
            f"{row['developer_mebibytes']:.0f}",
            f"{row['auditor_mebibytes']:.0f}",
        )
        for row in result["rows"]
    ]


def _tables(folder: Path, n: int, k: int) -> Settings:
    """Both parties' Parquet tables, the same for the same n and k, and the settings of an audit of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(n)
    ids = pa.array([f"record-{i:08d}" for i in generator.permutation(n)])
    groups = generator.integers(0, k, n)
    labels = generator.integers(0, 2, n)
    predictions = (generator.random(n) < np.where(labels == 1, 0.7 + 0.2 * groups / k, 0.2)).astype(np.int64)
    pq.write_table(pa.table({"id": ids, "label": labels, "prediction": predictions}), folder / "predictions.parquet")
    names = pa.array(list(LEVELS[:k])).take(pa.array(groups))
    pq.write_table(pa.table({"id": ids, "Group": names}), folder / "attributes.parquet")
    base = Settings()
    return base.model_copy(
        update={
            "attributes": base.attributes.model_copy(
                update={"file": folder / "attributes.parquet", "columns": ("Group",)}
            ),
            "audit": base.audit.model_copy(update={"predictions": folder / "predictions.parquet"}),
        }
    )


def _run(folder: Path, settings: Settings, mode: str, k: int) -> Row:
    """One audit with a fresh ledger; what it cost, and how wrong its counts are. One that is finished is kept."""
    import pyarrow.parquet as pq

    predictions = read_predictions(settings.audit)
    if not all((folder / f"{role}.json").exists() for role in ("developer", "auditor")):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        _audit(folder, settings, predictions, mode, k)
    report = json.loads((folder / "developer" / "audit.json").read_text())
    table = pq.read_table(settings.attributes.file)
    groups = table["Group"].to_numpy(zero_copy_only=False)[np.argsort(table["id"].to_numpy(zero_copy_only=False))]
    error = 0.0
    for name, cells in report["counts"]["Group"].items():
        rows = predictions.layout.rows(predictions.labels[groups == name], predictions.other[groups == name])
        for true, count in zip(rows.sum(axis=0).tolist(), cells.values(), strict=True):
            error = max(error, abs(true - count) if count is not None else 0.0)
    memory = {role: json.loads((folder / f"{role}.json").read_text()) for role in ("developer", "auditor")}
    return {
        **report["cost"],
        "error": error,
        **{f"{role}_mebibytes": found["peak"] - found["imported"] for role, found in memory.items()},
    }


def _audit(folder: Path, settings: Settings, predictions: Predictions, mode: str, k: int) -> None:
    (folder / "settings.toml").write_text(settings_text(settings))
    (folder / "policy.toml").write_text(
        f'[policy]\nreleases = ["audit"]\nepsilon = 4.0\ndelta = 1e-5\naudits = "{mode}"\n'
        f'audit_sets = ["{predictions.ids.digest()}"]\n[policy.categories]\nGroup = {json.dumps(list(LEVELS[:k]))}\n'
    )
    run_parties(_Launch(folder, folder / "settings.toml", folder / "policy.toml"))


def _row(n: int, k: int, mode: str, runs: Sequence[Row]) -> Row:
    ms = [1000 * run["mpc_seconds"] for run in runs]
    last = runs[-1]
    return {
        "op": "audit",
        "system": "secure-fair",
        "mode": mode,
        "n": n,
        "d": 3,  # columns of the developer: four cells but one
        "k": k,
        "rounds": last["rounds"],
        "bytes_sent": last["bytes_sent"],
        "bytes_received": last["bytes_received"],
        "bytes_per_row": (last["bytes_sent"] + last["bytes_received"]) / n,
        "offline_bytes": last["offline_bytes"],
        "floor_bytes": last["floor_bytes"],
        "ms_median": statistics.median(ms),
        "ms_min": min(ms),
        "ms_max": max(ms),
        "ledger_seconds": statistics.median(run["ledger_seconds"] for run in runs),
        "total_seconds": statistics.median(run["total_seconds"] for run in runs),
        "max_error" if mode == "exact" else "largest_noise": max(run["error"] for run in runs),
        "developer_mebibytes": max(run["developer_mebibytes"] for run in runs),
        "auditor_mebibytes": max(run["auditor_mebibytes"] for run in runs),
        "seconds": [run["mpc_seconds"] for run in runs],
    }
