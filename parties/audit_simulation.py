"""A whole audit on one machine: three processes, real transport, for a user who holds both tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from parties.audit_messages import id_key, require_list
from parties.launch import ROLES, run_parties
from parties.leftovers import removed_if_refused
from secure_fair.audit.attributes import AuditTable, categories_in, read_audit_table
from secure_fair.audit.columns import Ids, Table
from secure_fair.audit.predictions import Predictions, read_predictions
from secure_fair.data.attributes import read_schema
from secure_fair.errors import RefusedError, RunError, SettingsError
from secure_fair.fairness.verdict import few_records
from secure_fair.files import write_text
from secure_fair.privacy import policy
from secure_fair.sections import CROSS
from secure_fair.settings import Settings, parse

LIMITS = {"timeout_seconds", "idle_timeout_seconds", "start_timeout_seconds", "prefetch"}
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


def simulate_audit(simulation: AuditSimulation, warn: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run three processes and write OUT/audit.json, which is returned. Raises RunError, DataError, SettingsError."""
    settings, out = simulation.settings, simulation.out
    require_list(settings)
    file = settings.attributes.file
    assert file is not None  # noqa: S101 (the command line requires it)
    if simulation.exact and simulation.policy is not None:
        raise SettingsError('exact is for a simulation without a policy; write `audits = "exact"` in the policy')
    if out.exists():
        raise RunError(f"{out}: exists already; name another folder, or remove it")
    predictions = read_predictions(settings.audit)  # what is wrong with a table is said before anything is written
    if simulation.policy is None:
        settings, rules = _own_policy(settings, predictions.ids if simulation.exact else None)
    else:
        rules = policy.load(simulation.policy)
        settings = _naming(settings, settings.attributes.columns or tuple(rules.categories))
    table = read_audit_table(file, settings.attributes.columns, rules)
    with removed_if_refused(out):
        out.mkdir(parents=True)
        if simulation.policy is None:
            (out / "policy.toml").write_text(policy.simulated(rules))
        (out / "settings.toml").write_text(settings_text(settings))
        run_parties(AuditLaunch(out, out / "settings.toml", simulation.policy or out / "policy.toml"))
    for told in few_records(_cells(predictions, table, settings.attributes.columns, rules)):
        warn(told)
    text = (out / "developer" / "audit.json").read_text()
    write_text(out / "audit.json", text)
    report: dict[str, Any] = json.loads(text)
    return report


def _cells(predictions: Predictions, table: AuditTable, columns: Sequence[str], rules: policy.Policy) -> dict[str, int]:
    """Records by group and label, for the user, who holds both tables: nothing of it is in any party's folder."""
    key = id_key("", "")
    rows = table.rows(predictions.ids.keyed(key), key)
    return {
        f"{column}={group}, label {label}": int(((groups == g) & (predictions.labels == c)).sum())
        for column, names in zip(columns, rules.categories_of(columns), strict=True)
        for groups in [table.groups(column, rows)]
        for g, group in enumerate(names)
        for c, label in enumerate(predictions.classes)
    }


def _own_policy(settings: Settings, frozen: Ids | None) -> tuple[Settings, policy.Policy]:
    """Settings with the attributes named, and a policy that allows exactly this audit. frozen: for exact counts."""
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
    rules = {
        "releases": ("audit",),
        "epsilon": settings.privacy.epsilon,
        "delta": settings.privacy.delta,
        "min_group": settings.audit.smallest_cell,
        "audits": "noised" if frozen is None else "exact",
        "audit_sets": () if frozen is None else (frozen.digest(),),
        "categories": categories,
        "person": person,
    }
    own = parse(policy.Policy, rules, str(schema if schema.exists() else file))
    return _naming(settings, columns), own


def _naming(settings: Settings, columns: tuple[str, ...]) -> Settings:
    """With these attributes."""
    named = settings.attributes.model_copy(update={"columns": columns})
    return settings.model_copy(update={"attributes": named})


def settings_text(settings: Settings) -> str:
    """The sections of an audit as TOML; paths are absolute, so that the file works from any folder.

    Addresses and certificates are left out: the launcher makes those.
    """
    privacy, network = {"epsilon", "delta", "store_values"}, LIMITS
    shown = settings.model_dump(
        mode="json",
        include={"attributes": True, "audit": True, "privacy": privacy, "network": network},
        exclude_none=True,
    )
    shown["attributes"]["file"] = str(Path(shown["attributes"]["file"]).absolute())
    shown["audit"]["predictions"] = str(Path(shown["audit"]["predictions"]).absolute())
    notice = "# The settings of this audit, as all parties read them; in a deployment each has its own.\n"
    return notice + tomli_w.dumps(shown)
