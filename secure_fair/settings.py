"""Settings of a run: frozen, validated, versioned; an unknown key is an error that names the nearest one.

The file is TOML (see `secure-fair config init`). Both parties may read one file in a simulation; in a real
deployment each party has its own, and the sections that must agree are compared by hash (`shared_digest`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydantic

from secure_fair.errors import SettingsError
from secure_fair.sections import (
    AdversarySettings,
    AttributeSettings,
    AuditSettings,
    DataSettings,
    FairnessSettings,
    LoraSettings,
    ModelSettings,
    NetworkSettings,
    PrivacySettings,
    Section,
    SensitiveSettings,
    TrainingSettings,
)

VERSION: Literal[1] = 1
_BARE = re.compile(r"[A-Za-z0-9_-]+")  # keys that TOML needs no quotes around
SENSITIVE = ("adapter", "adapter-gradient", "predictor")  # releases of a LoRA that the auditor trains
Model = TypeVar("Model", bound=pydantic.BaseModel)


class Settings(Section):
    """All settings of one party or of a simulation."""

    version: Literal[1] = VERSION
    data: DataSettings = DataSettings()
    attributes: AttributeSettings = AttributeSettings()
    model: ModelSettings = ModelSettings()
    lora: LoraSettings = LoraSettings()
    training: TrainingSettings = TrainingSettings()
    fairness: FairnessSettings = FairnessSettings()
    adversary: AdversarySettings = AdversarySettings()
    network: NetworkSettings = NetworkSettings()
    privacy: PrivacySettings = PrivacySettings()
    sensitive: SensitiveSettings = SensitiveSettings()
    audit: AuditSettings = AuditSettings()

    def audit_digest(self) -> str:
        """SHA-256 of what both parties of an audit must agree on."""
        shared = [self.version, self.attributes.columns, self.privacy.epsilon, self.privacy.delta]
        return hashlib.sha256(json.dumps(shared).encode()).hexdigest()

    def shared_digest(self, method: str, release: str) -> str:
        """SHA-256 of what both parties must agree on; compared in the handshake."""
        shared = {
            "version": self.version,
            "method": method,
            "release": release,
            "columns": self.attributes.columns,
            "alignment": self.attributes.alignment,
            "fairness": self.fairness.model_dump(exclude={"weight"}),
            "adversary": self.adversary.model_dump(),
            "privacy": self.privacy.model_dump(exclude={"store_values"}),
        }
        if release in SENSITIVE:  # two LoRAs that meet, or one that moves, must be of one shape, on one backbone
            shared |= {"lora": self.lora.model_dump(), "backbone": self.model.backbone, "size": self.data.image_size}
            shared["private"] = self.sensitive.private  # the auditor's decision; a developer who expects another stops
        return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def toml(value: Any) -> str:
    """A value in TOML's notation."""
    if isinstance(value, Mapping):
        pairs = (f"{name if _BARE.fullmatch(name) else toml(name)} = {toml(inner)}" for name, inner in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # for texts, numbers and truth values the two notations agree


def load(path: Path | None, overrides: tuple[str, ...] = ()) -> Settings:
    """Read a settings file and apply `section.key=value` overrides (values are TOML).

    Relative paths in the file are relative to the file. Raises SettingsError naming file, key and mend.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise SettingsError(f"{path}: no such file; write one with `secure-fair config init {path}`") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not valid TOML ({error}); mend that line") from None
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    for override in overrides:
        _apply(table, override)
    keys = tuple(override.partition("=")[0].strip() for override in overrides)
    settings = parse(Settings, table, str(path or "settings"), keys)
    return _resolve(settings, path.parent if path is not None else Path())


def parse(model: type[Model], table: dict[str, Any], where: str, overrides: tuple[str, ...] = ()) -> Model:
    """Validate `table`; the first problem becomes a SettingsError with its key and the nearest known key.

    overrides: the keys that were given by --set, and not by `where`.
    """
    try:
        return model.model_validate(table)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        given = [name for name in overrides if f"{name}.".startswith(f"{key}.") or f"{key}.".startswith(f"{name}.")]
        where = f"{where} with --set {given[-1]}" if given else where
        if problem["type"] == "extra_forbidden":
            known = _known_keys(model, problem["loc"][:-1])
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
            raise SettingsError(f"{where}: unknown key `{key}`; {hint}") from None
        raise SettingsError(f"{where}: `{key}`: {problem['msg']}") from None


def _known_keys(model: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        inner = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, pydantic.BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def _apply(table: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise SettingsError(f"--set {override!r}: write it as section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise SettingsError(f"--set {override!r}: `{part}` is not a section")
    table[parts[-1]] = value


def _resolve(settings: Settings, base: Path) -> Settings:
    """Make the file's relative paths relative to the file, so that a command works from any folder."""

    def at(path: Path | None) -> Path | None:
        return path if path is None or path.is_absolute() else base / path

    network = settings.network
    weights = settings.model.weights
    if weights.endswith(".safetensors"):
        weights = str(at(Path(weights)))
    return settings.model_copy(
        update={
            "data": settings.data.model_copy(update={"root": at(settings.data.root)}),
            "attributes": settings.attributes.model_copy(update={"file": at(settings.attributes.file)}),
            "model": settings.model.model_copy(update={"weights": weights}),
            "audit": settings.audit.model_copy(update={"predictions": at(settings.audit.predictions)}),
            "network": network.model_copy(
                update={"certificate": at(network.certificate), "key": at(network.key), "ca": at(network.ca)}
            ),
        }
    )
