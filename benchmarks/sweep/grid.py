"""Which trainings make the sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from secure_fair.fairness import methods
from secure_fair.settings import Settings, toml

WEIGHT = "fairness.weight"
RATE, RANK, TARGETS = "training.learning_rate", "lora.rank", "lora.targets"
# Pinned wherever it is not swept: a backbone that a CPU can train, and the lowest rate that served ERM, ORTH and ADV
# alike with the first seed.
BASE: Mapping[str, Any] = MappingProxyType(
    {
        "data.image_size": 48,
        "model.backbone": "demo_vit",
        "model.weights": "demo",
        RATE: 5e-4,
        "training.device": "cpu",
        "training.threads": 1,
    }
)


@dataclass(frozen=True)
class Arm:
    """A training of each seed; release None: plaintext. `setting` has another value than in the base; "": none has."""

    method: str
    release: str | None = None
    setting: str = ""
    value: Any = None

    @property
    def name(self) -> str:
        words = [self.method, self.release or "plaintext"]
        return " ".join([*words, f"{self.setting}={toml(self.value)}"] if self.setting else words)


@dataclass(frozen=True)
class Axis:
    """The values of one setting for one method, all else as in the base."""

    setting: str
    values: tuple[Any, ...]
    method: str
    release: str | None = None

    @property
    def default(self) -> Any:
        """The program's."""
        if self.setting == WEIGHT:
            return methods.get(self.method).weight(Settings(), self.release)
        section, key = self.setting.split(".")
        return getattr(getattr(Settings(), section), key)

    def arm(self, value: Any, base: Mapping[str, Any]) -> Arm:
        """The base's arm where the value is the base's."""
        same = value == base.get(self.setting, self.default)
        return Arm(self.method, self.release) if same else Arm(self.method, self.release, self.setting, value)


AXES = (
    *(Axis(RATE, (1e-4, 5e-4, 1e-3, 2e-3, 4e-3), method) for method in ("erm", "orth", "adv")),
    Axis(WEIGHT, (300.0, 1000.0, 3000.0, 10000.0), "orth"),
    Axis(WEIGHT, (3.0, 10.0, 30.0, 100.0), "adv"),
    Axis(WEIGHT, (1000.0, 10000.0, 100000.0), "orth", "moment"),
    Axis(WEIGHT, (1000.0, 10000.0, 100000.0), "orth", "randomized-response"),
    Axis(WEIGHT, (3.0, 10.0, 30.0), "ent"),
    Axis(WEIGHT, (0.5, 1.0, 2.0), "unl"),
    Axis(WEIGHT, (1.0, 10.0, 100.0), "orth-adapter"),
    Axis(WEIGHT, (3.0, 10.0, 30.0), "adv", "moment"),
    Axis(RANK, (2, 4, 8, 16), "orth"),
    Axis(TARGETS, (("qkv",), ("qkv", "proj"), ("qkv", "proj", "fc1", "fc2")), "orth"),
)


@dataclass(frozen=True)
class Sweep:
    """Axes around a base, and the size of it all."""

    seeds: int = 3
    images: int = 6000
    axes: tuple[Axis, ...] = AXES
    base: Mapping[str, Any] = field(default_factory=lambda: BASE)

    def arms(self) -> tuple[Arm, ...]:
        """ERM in the base first: it is what every other one is held against."""
        return tuple(dict.fromkeys((Arm("erm"), *self._arms())))

    def _arms(self) -> Iterator[Arm]:
        for axis in self.axes:
            yield from (axis.arm(value, self.base) for value in axis.values)
