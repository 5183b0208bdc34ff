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
from typing import Annotated, Any, Literal, Self, TypeVar

import pydantic
from pydantic import Field

from secure_fair.errors import SettingsError

VERSION: Literal[1] = 1
_BARE = re.compile(r"[A-Za-z0-9_-]+")  # keys that TOML needs no quotes around
SENSITIVE = ("adapter", "adapter-gradient", "predictor")  # releases of a LoRA that the auditor trains
CROSS = "*"  # "Male*Young" in attributes.columns is the intersection of two attributes
Model = TypeVar("Model", bound=pydantic.BaseModel)


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


MAX_EPOCHS = 10_000  # the plan of a run names every epoch
MAX_SEED = 2**62  # below what torch takes, also after the offsets that seeds get
Positive = Annotated[int, Field(gt=0)]
Told = Annotated[int, Field(gt=0, lt=2**31)]  # to an auditor
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Epsilon = Annotated[float, Field(gt=0, le=10**5, allow_inf_nan=False)]  # what the accountant takes
Delta = Annotated[float, Field(gt=0, le=0.5)]


class DataSettings(_Section):
    """The developer's prepared folder."""

    root: Path | None = None
    image_size: Positive = 224
    workers: Annotated[int, Field(ge=0)] = 0


class AttributeSettings(_Section):
    """The auditor's table; only the auditor's process reads the file named here. How its ids and ours are matched."""

    file: Path | None = None
    columns: tuple[str, ...] = ()
    alignment: Literal["list", "psi"] = "list"


class ModelSettings(_Section):
    """Any timm ViT; weights are `imagenet` (timm's hub), `random`, `demo` (shipped) or a safetensors file."""

    backbone: str = "vit_base_patch16_224"
    weights: str = "imagenet"


class LoraSettings(_Section):
    """LoRA (Hu et al. 2021) on the named modules of each block."""

    rank: Positive = 8
    alpha: Positive = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = ("qkv",)


class TrainingSettings(_Section):
    """The task's optimisation: AdamW on the adapter and the head."""

    epochs: Annotated[int, Field(gt=0, le=MAX_EPOCHS)] = 5
    batch_size: Told = 64
    micro_batch_size: Annotated[int, Field(ge=0)] = 0
    learning_rate: PositiveFloat = 5e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    seed: Annotated[int, Field(ge=0, lt=MAX_SEED)] = 0
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "bf16"
    threads: Annotated[int, Field(ge=0)] = 0
    checkpoint_steps: Told = 200
    delayed: bool = False
    balanced: bool = False


class FairnessSettings(_Section):
    """Weight of the fairness term (absent: the method's default), criterion, and the factors of ORTH-ADAPTER."""

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    criterion: Literal["odds", "parity"] = "odds"
    factors: Literal["A", "AB"] = "A"


class AdversarySettings(_Section):
    """Plain SGD with weight decay lambda: ||w|| <= sqrt(2)/lambda, |logit| <= 2/lambda by construction.

    The secure sigmoid covers |logit| <= 56, hence lambda >= 0.036; see docs/protocols.md.
    """

    learning_rate: PositiveFloat = 1.0
    weight_decay: Annotated[float, Field(ge=0.036, le=1)] = 0.05
    hidden: Annotated[int, Field(ge=0, le=4096)] = 0

    @pydantic.model_validator(mode="after")
    def _bounded(self) -> Self:
        step = self.learning_rate * self.weight_decay
        if step > 1:
            raise ValueError(
                f"learning_rate * weight_decay = {step:g} is above 1, which voids the bound on the adversary's "
                "weights; lower `adversary.learning_rate`"
            )
        return self


class NetworkSettings(_Section):
    """Addresses, certificates and deadlines of one party; a simulation fills them in."""

    listen: str | None = None
    peers: dict[Literal["developer", "auditor", "dealer"], str] = {}
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    fingerprints: dict[Literal["developer", "auditor", "dealer"], str | tuple[str, ...]] = {}
    timeout_seconds: PositiveFloat = 30.0
    idle_timeout_seconds: PositiveFloat = 3600.0
    start_timeout_seconds: PositiveFloat = 60.0
    prefetch: Annotated[int, Field(ge=0)] = 32


class PrivacySettings(_Section):
    """What the developer asks of a private release; the auditor's policy decides whether it is granted."""

    epsilon: Epsilon = 2.0
    delta: Delta = 1e-5
    refresh: Literal["once", "epoch"] = "once"
    rank: Annotated[int, Field(ge=0)] = 0
    clip: PositiveFloat = 1.0
    store_values: bool = False


class SensitiveSettings(_Section):
    """The auditor's own training of a sensitive LoRA: with `private`, DP-SGD under [privacy]'s epsilon and delta."""

    private: bool = False
    clip: PositiveFloat = 1.0


class AuditSettings(_Section):
    """The developer's side of an audit: its table, and what it lets an auditor see of it."""

    predictions: Path | None = None
    threshold: FiniteFloat | None = None
    classes: tuple[str, ...] = ()
    split: str = ""
    bins: Annotated[int, Field(ge=0, multiple_of=2)] = 0
    range: tuple[FiniteFloat, FiniteFloat] | None = None
    smallest_cell: Positive = 20
    categories: dict[str, tuple[str, ...]] = {}
    commitment: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    share_result: bool = False

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("`range` is two numbers, the lower one first")
        return self


class Settings(_Section):
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
            shared |= {
                "private": self.sensitive.private
            }  # the auditor's decision; a developer who expects another stops
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
