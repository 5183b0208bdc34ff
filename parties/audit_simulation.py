"""A whole audit on one machine: three processes, real transport, for a user who holds both tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parties.launch import ROLES, run_parties
from secure_fair.audit.attributes import categories_in
from secure_fair.audit.columns import Table
from secure_fair.audit.predictions import read_predictions
from secure_fair.data.attributes import read_schema
from secure_fair.errors import RefusedError
from secure_fair.files import write_text
from secure_fair.privacy import policy
from secure_fair.settings import CROSS, Settings
from secure_fair.training.run_folder import check_run_folder

RESERVED = ("id", "person", "identity", "split")  # columns that are no attribute unless they are named


@dataclass(frozen=True)
class AuditSimulation:
    """What to audit; without a policy one is written that allows exactly this, `exact` or noised."""

    settings: Settings
    out: Path
    policy: Path | None = None
    exact: bool = False


@dataclass(frozen=True)
class AuditLaunch:
    """The command lines of an audit's parties."""

    run: Path
    config: Path
    policy: Path

    def roles(self) -> list[str]:
        return list(ROLES)

    def command(self, role: str, network: Sequence[str]) -> list[str]:
        group = "party" if role == "dealer" else "audit"
        own = {"auditor": ["--policy", str(self.policy)], "developer": ["--quiet"]}.get(role, [])
        settings = [part for override in network for part in ("--set", override)]
        base = [sys.executable, "-m", "secure_fair", group, role, "-c", str(self.config)]
        return [*base, "--out", str(self.run / role), *own, *settings]


def simulate_audit(simulation: AuditSimulation) -> dict[str, Any]:
    """Run three processes and write OUT/audit.json, which is returned. Raises RunError, DataError, SettingsError."""
    settings, out = simulation.settings, simulation.out
    file = settings.attributes.file
    assert file is not None  # noqa: S101 (the command line requires it)
    check_run_folder(out, resume=False)
    read_predictions(settings.audit)  # what is wrong with a table is said before three processes start
    out.mkdir(parents=True, exist_ok=True)
    if simulation.policy is None:
        settings, text = _own_policy(settings, simulation.exact)
        (out / "policy.toml").write_text(text)
    elif not settings.attributes.columns:
        columns = tuple(policy.load(simulation.policy).categories)
        settings = settings.model_copy(
            update={"attributes": settings.attributes.model_copy(update={"columns": columns})}
        )
    (out / "settings.toml").write_text(settings_text(settings))
    run_parties(AuditLaunch(out, out / "settings.toml", simulation.policy or out / "policy.toml"))
    text = (out / "developer" / "audit.json").read_text()
    write_text(out / "audit.json", text)
    report: dict[str, Any] = json.loads(text)
    return report


def _own_policy(settings: Settings, exact: bool) -> tuple[Settings, str]:
    """Settings with the attributes named, and a policy that allows exactly this audit."""
    file = settings.attributes.file
    assert file is not None  # noqa: S101
    schema = file.parent / "schema.json"
    columns = settings.attributes.columns
    person = None
    if schema.exists():
        known = read_schema(schema)
        categories, person = known.attributes, known.person
        columns = columns or tuple(categories)
    else:
        columns = columns or tuple(name for name in Table(file).header if name not in RESERVED)
        if not columns:
            raise RefusedError(f"{file}: no column beside the ids; name the attributes: --columns A,B")
        base = tuple(dict.fromkeys(part for column in columns for part in column.split(CROSS)))
        categories = categories_in(file, base)
    rows = [
        "# Written by the simulation: it allows exactly what was asked for. A real auditor writes its own.",
        "[policy]",
        'releases = ["audit"]',
        f"epsilon = {settings.privacy.epsilon!r}",
        f"delta = {settings.privacy.delta!r}",
        f"min_group = {settings.audit.smallest_cell}",
    ]
    if person is not None:
        rows.append(f"person = {json.dumps(person)}")
    if exact:
        ids = read_predictions(settings.audit).ids
        rows += ['audits = "exact"', f"audit_sets = [{json.dumps(ids.digest())}]"]
    rows.append("[policy.categories]")
    rows += [f"{json.dumps(name)} = {json.dumps(list(values))}" for name, values in categories.items()]
    named = settings.attributes.model_copy(update={"columns": columns})
    return settings.model_copy(update={"attributes": named}), "\n".join(rows) + "\n"


def settings_text(settings: Settings) -> str:
    """The sections of an audit as TOML; paths are absolute, so that the file works from any folder."""
    shown = settings.model_dump(
        mode="json", include={"attributes": True, "audit": True, "privacy": {"epsilon", "delta"}}
    )
    shown["attributes"]["file"] = str(Path(shown["attributes"]["file"]).absolute())
    shown["audit"]["predictions"] = str(Path(shown["audit"]["predictions"]).absolute())
    lines = ["# The settings of this audit, as all parties read them; in a deployment each has its own."]
    for section, table in shown.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_toml(value)}" for key, value in table.items() if value is not None]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)
