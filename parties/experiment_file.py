"""The file of `secure-fair experiment`: pairs of task and attribute, arms, seeds, and the rule that chooses weights."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from secure_fair.errors import SettingsError
from secure_fair.fairness import methods
from secure_fair.settings import Settings, parse


class _Table(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Drawn(_Table):
    """Procedural faces to draw; the keys are the options of `secure-fair data faces`."""

    count: Annotated[int, Field(ge=10)] = 8000
    seed: Annotated[int, Field(ge=0)] = 0
    correlation: Annotated[float, Field(ge=0, le=1)] = 0.93
    balanced_test: bool = True
    overlap: Annotated[float, Field(ge=0)] = 0.5
    size: Annotated[int, Field(ge=32)] = 96
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    rate: Annotated[float, Field(gt=0, le=0.5)] | None = None


class Pair(_Table):
    """A task and a sensitive attribute (or intersection "A*B"), on a data set on disk (`root`) or on `faces` drawn."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    task: str
    attribute: str
    layout: Literal["celeba", "utkface"] = "celeba"
    root: Path | None = None
    faces: Drawn | None = None
    join: dict[str, tuple[str, ...]] = {}
    age_bins: tuple[int, ...] = (20, 40, 60)
    person: bool = False

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Pair:
        if (self.root is None) == (self.faces is None):
            raise ValueError("name either `root`, a data set on disk, or `faces` to draw")
        return self


class Experiment(_Table):
    """The whole grid.

    arms: "METHOD" for plaintext, "METHOD RELEASE" for a secure run. weights: candidates by method, of which one is
    chosen for each pair (`rule`); without, the default. auditor_images: fraction of the training images that the
    auditor has to itself, for the releases of the paper's separate-data setting; every arm of a pair has the same
    training images.
    """

    version: Literal[1] = 1
    seeds: Annotated[int, Field(ge=1)] = 3
    arms: tuple[str, ...]
    pairs: Annotated[tuple[Pair, ...], Field(min_length=1)]
    weights: dict[str, tuple[float, ...]] = {}
    max_loss: Annotated[float, Field(ge=0)] = 0.03
    auditor_images: Annotated[float, Field(ge=0, lt=1)] = 0.25
    settings: Settings = Settings()

    @property
    def rule(self) -> str:
        """How a weight is chosen, said before any test record is looked at."""
        return (
            "Of the candidate weights of a method the one is taken whose plaintext run with the first seed has the "
            "smallest equalized-odds difference on the validation split among those whose balanced accuracy there is "
            f"at most {self.max_loss:g} below ERM's; where there is none, the one with the highest balanced accuracy. "
            "It then holds for all seeds, and for the secure arm that is the plaintext one's twin. Another release "
            "takes its default weight."
        )

    def parsed(self) -> list[tuple[str, str | None]]:
        """(method, release) of each arm, ERM first; None: plaintext."""
        found: list[tuple[str, str | None]] = [("erm", None)]
        for arm in self.arms:
            name, _, release = arm.partition(" ")
            methods.get(name)
            if release:
                methods.get(name).require_release(release)
            if (name, release or None) not in found and name != "erm":
                found.append((name, release or None))
        for name, _ in [*found, *((name, None) for name in self.weights)]:
            if name in self.weights and (name, None) not in found:
                raise SettingsError(f"weights.{name}: the rule needs the arm `{name}` in plaintext; add it to `arms`")
        return found


def load(path: Path) -> Experiment:
    """Read FILE; its paths are relative to it. Raises SettingsError naming file, key and the nearest known key."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file; `benchmarks/experiments/` has examples") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML ({error}); mend that line") from None
    experiment = parse(Experiment, table, str(path))
    experiment.parsed()
    pairs = tuple(
        pair
        if pair.root is None or pair.root.is_absolute()
        else pair.model_copy(update={"root": path.parent / pair.root})
        for pair in experiment.pairs
    )
    return experiment.model_copy(update={"pairs": pairs})
