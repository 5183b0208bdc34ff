"""The registry of methods: a new method is one objective with its secure twin, and one entry here.

Factories are named, not imported, so that reading the registry loads neither torch nor CrypTen. A plain factory takes a
`terms.Context` and gives a FairnessTerm.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from secure_fair.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secure_fair.settings import Settings


@dataclass(frozen=True)
class Method:
    """A method, the releases it knows, and for each release the default weight and the secure term's factory.

    The plaintext arm is the twin of the first release (`gradient`, or `none`) and takes its default weight.
    """

    name: str
    releases: tuple[str, ...]
    default_weight: Mapping[str, float]
    plain: str
    secure: Mapping[str, str]
    own_images: bool = False  # whether images of the auditor's own, where there are some, are what it learns from
    once: bool = False  # whether it wants its attributes before training, and then never again
    undelayed: bool = False  # whether it works on parameters, which a later step finds moved

    def require_release(self, release: str) -> None:
        """Raise SettingsError unless the method knows this release."""
        if release not in self.releases:
            raise SettingsError(
                f"method `{self.name}` has no release `{release}`; choose one of {', '.join(self.releases)}"
            )

    def require_settings(self, settings: Settings) -> None:
        """Raise SettingsError for settings that the method refuses: before anybody is asked, and debited."""
        if self.once and settings.privacy.refresh == "epoch":
            raise SettingsError(f'method `{self.name}` asks once, before training; write privacy.refresh = "once"')
        if self.undelayed and settings.training.delayed:
            raise SettingsError(f"method `{self.name}` works on the adapter as it is; set training.delayed = false")

    def weight(self, settings: Settings, release: str | None = None) -> float:
        """The weight of the term: the settings' own, else the default for this release (None: the plaintext arm)."""
        if settings.fairness.weight is not None and self.name != "erm":
            return settings.fairness.weight
        return self.default_weight[release or self.releases[0]]


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("erm", ("none",), {"none": 0.0}, "secure_fair.fairness.terms:plain_erm", {}),
        Method(
            "orth",
            ("gradient", "moment", "randomized-response", "predictor"),
            {"gradient": 1000.0, "moment": 10000.0, "randomized-response": 10000.0, "predictor": 300.0},
            "secure_fair.fairness.terms:plain_orth",
            {"gradient": "secure_fair.mpc.terms:secure_orth"},
        ),
        Method(
            "adv",
            ("gradient", "moment", "randomized-response", "predictor"),
            {"gradient": 10.0, "moment": 10.0, "randomized-response": 10.0, "predictor": 10.0},
            "secure_fair.fairness.terms:plain_adversary",
            {"gradient": "secure_fair.mpc.terms:secure_adversary"},
        ),
        Method(
            "ent",
            ("gradient", "moment", "randomized-response", "predictor"),
            {"gradient": 10.0, "moment": 10.0, "randomized-response": 10.0, "predictor": 10.0},
            "secure_fair.fairness.terms:plain_entropy",
            {"gradient": "secure_fair.mpc.terms:secure_entropy"},
        ),
        Method(
            "unl",
            ("adapter", "moment"),
            {"adapter": 0.5, "moment": 0.5},
            "secure_fair.training.unlearning:plain_unlearning",
            {},
            own_images=True,
            once=True,
        ),
        Method(
            "orth-adapter",
            ("adapter-gradient",),
            {"adapter-gradient": 1.0},
            "secure_fair.training.overlap:plain_overlap",
            {},
            own_images=True,
            undelayed=True,
        ),
    )
}
RELEASES = tuple(dict.fromkeys(release for method in METHODS.values() for release in method.releases))


def get(name: str) -> Method:
    """The method of that name. Raises SettingsError naming the known ones."""
    if name not in METHODS:
        raise SettingsError(f"method `{name}` is not known; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def factory(reference: str) -> Any:
    """The object behind a "module:name" reference."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
