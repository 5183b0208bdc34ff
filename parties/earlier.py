"""Whether what an earlier call has left complete in a folder was made with the settings that are asked for now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secure_fair.errors import RunError, SettingsError
from secure_fair.report.arms import unaccounted
from secure_fair.settings import Settings, parse

_ELSEWHERE: Any = {"network": True, "audit": True, "data": {"workers"}}  # what changes nothing about a training
_ABSENT = "nothing"


def read_complete(run: Path, settings: Settings) -> dict[str, Any]:
    """The summary of a complete run. Raises RunError when it was made with other settings, and names the first."""
    again = f"name another --out, or remove {run} to have it made anew"
    try:
        row: dict[str, Any] = json.loads((run / "summary.json").read_text())
        before, of_old = parse(Settings, row["config"], "its settings"), unaccounted(row)
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"{run}: its summary.json cannot be read; {again}") from None
    except SettingsError as error:
        raise RunError(f"{run}: of another version of this program ({error}); {again}") from None
    if of_old:
        raise RunError(f"{run}: does not say what the release it reuses has cost, so is of an older version; {again}")
    found = difference(facts(before), facts(settings))
    if found is not None:
        raise RunError(f"{run}: was made with {found}; ask for the same, {again}")
    return row


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first key of two nested tables whose values differ, with both values; None: the tables are equal."""
    first, second = _leaves(before), _leaves(now)
    for key in {**second, **first}:
        if first.get(key, _ABSENT) != second.get(key, _ABSENT):
            return f"{key} = {first.get(key, _ABSENT)}, and now it is {second.get(key, _ABSENT)}"
    return None


def facts(settings: Settings) -> dict[str, Any]:
    """What a training depends on; a path is what it leads to from here."""
    facts = settings.model_dump(mode="json", exclude=_ELSEWHERE)
    for section, key, path in (
        ("data", "root", settings.data.root),
        ("attributes", "file", settings.attributes.file),
        ("model", "weights", Path(settings.model.weights) if settings.model.weights.endswith(".safetensors") else None),
    ):
        if path is not None:
            facts[section][key] = str(path.resolve())
    return facts


def _leaves(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key; a table without keys is a value."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= (
            _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
        )
    return found
