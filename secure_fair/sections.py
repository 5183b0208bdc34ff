"""The sections of a settings file: frozen; an unknown key is an error. What each key means: docs/settings.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

CROSS = "*"  # "Male*Young" in attributes.columns is the intersection of two attributes
MAX_EPOCHS = 10_000  # the plan of a run names every epoch
MAX_SEED = 2**62  # below what torch takes, also after the offsets that seeds get
Positive = Annotated[int, Field(gt=0)]
Told = Annotated[int, Field(gt=0, lt=2**31)]  # to an auditor
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Epsilon = Annotated[float, Field(gt=0, le=10**5, allow_inf_nan=False)]  # what the accountant takes
Delta = Annotated[float, Field(gt=0, le=0.5)]


class Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class DataSettings(Section):
    """The developer's prepared folder."""

    root: Path | None = None
    image_size: Positive = 224
    workers: Annotated[int, Field(ge=0)] = 0


class AttributeSettings(Section):
    """The auditor's table; only the auditor's process reads the file named here. How its ids and ours are matched."""

    file: Path | None = None
    columns: tuple[str, ...] = ()
    alignment: Literal["list", "psi"] = "list"


class ModelSettings(Section):
    """Any timm ViT; weights are `imagenet` (timm's hub), `random`, `demo` (shipped) or a safetensors file."""

    backbone: str = "vit_base_patch16_224"
    weights: str = "imagenet"


class LoraSettings(Section):
    """LoRA (Hu et al. 2021) on the named modules of each block."""

    rank: Positive = 8
    alpha: Positive = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = ("qkv",)


class TrainingSettings(Section):
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


class FairnessSettings(Section):
    """Weight of the fairness term (absent: the method's default), criterion, and the factors of ORTH-ADAPTER."""

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    criterion: Literal["odds", "parity"] = "odds"
    factors: Literal["A", "AB"] = "A"


class AdversarySettings(Section):
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


class NetworkSettings(Section):
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


class PrivacySettings(Section):
    """What the developer asks of a private release; the auditor's policy decides whether it is granted."""

    epsilon: Epsilon = 2.0
    delta: Delta = 1e-5
    refresh: Literal["once", "epoch"] = "once"
    rank: Annotated[int, Field(ge=0)] = 0
    clip: PositiveFloat = 1.0
    store_values: bool = False


class SensitiveSettings(Section):
    """The auditor's own training of a sensitive LoRA: with `private`, DP-SGD under [privacy]'s epsilon and delta."""

    private: bool = False
    clip: PositiveFloat = 1.0


class AuditSettings(Section):
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
