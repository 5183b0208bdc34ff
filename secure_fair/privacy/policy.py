"""The auditor's policy: what may be released, about which attributes, to whom, at what cost.

The file is the auditor's own; nothing in it is the developer's to choose. Every reason for a refusal is a function of
record ids and public facts, never of an attribute: a refusal is a message to the developer too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pydantic
import tomli_w
from pydantic import Field

from secure_fair.errors import RefusedError, SettingsError
from secure_fair.privacy.accountant import Budget
from secure_fair.sections import CROSS, Delta, Epsilon
from secure_fair.settings import parse

ReleaseName = Literal["gradient", "moment", "randomized-response", "adapter", "adapter-gradient", "predictor", "audit"]
Fingerprint = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Policy(pydantic.BaseModel):
    """The `[policy]` table of policy.toml; `epsilon` and `delta` are per person, over all runs together."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    version: Literal[1] = 1
    releases: tuple[ReleaseName, ...]
    epsilon: Epsilon
    delta: Delta
    min_group: Annotated[int, Field(ge=1)] = 20
    min_intersection: Annotated[int, Field(ge=1)] = 100
    audits: Literal["noised", "exact"] = "noised"
    audit_sets: tuple[Fingerprint, ...] = ()
    max_audits: Annotated[int, Field(ge=1)] = 1
    audit_to: Literal["developer", "both"] = "developer"
    categories: dict[str, tuple[str, ...]]
    person: str | None = None
    developers: tuple[Fingerprint, ...] = ()

    @pydantic.field_validator("categories")
    @classmethod
    def _distinct(cls, categories: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, values in categories.items():
            if len(values) < 2 or len(set(values)) < len(values):
                raise ValueError(f"`{name}` needs at least two categories, all different")
            if any(CROSS in text for text in (name, *values)):
                raise ValueError(f"`{name}`: `{CROSS}` joins attributes and cannot be part of a name")
        return categories

    @property
    def budget(self) -> Budget:
        return Budget(self.epsilon, self.delta)

    def require_release(self, release: str) -> None:
        """Raise RefusedError unless the policy allows this kind of release."""
        if release not in self.releases:
            allowed = ", ".join(self.releases) or "nothing"
            raise RefusedError(
                f"release {_quote(release)} is not allowed by the auditor's policy, which allows {allowed}"
            )

    def require_developer(self, fingerprint: str) -> None:
        """Raise RefusedError unless the certificate's fingerprint is listed in `developers`."""
        if fingerprint not in self.developers:
            raise RefusedError(
                f"developer {_quote(fingerprint)} is not in the auditor's policy; the auditor adds it to `developers`"
            )

    def require_intersection(self, common: int) -> None:
        """Raise RefusedError when too few ids are common; it does not say how many, which would tell of guessed ids."""
        if common < self.min_intersection:
            raise RefusedError(
                f"fewer than {self.min_intersection} training records are in the auditor's table too, which its policy "
                "does not allow (min_intersection); its log has the number"
            )

    def categories_of(self, columns: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Category names of each requested column or intersection ("A*B": names "a*b", A's category varying slowest).

        K and names come from here and never from the data, so an empty category stays a column.
        """
        if not columns or len(set(columns)) < len(columns):
            raise RefusedError("attributes must be named once each, and at least one")
        return tuple(self._crossed(column) for column in columns)

    def _crossed(self, column: str) -> tuple[str, ...]:
        parts = column.split(CROSS)
        unknown = [part for part in parts if part not in self.categories]
        if unknown or len(set(parts)) < len(parts):
            known = ", ".join(self.categories)
            raise RefusedError(f"attribute {_quote(column)} is not one of the auditor's policy, which has {known}")
        names = [""]
        for index, part in enumerate(parts):
            names = [f"{name}{CROSS}{value}" if index else value for name in names for value in self.categories[part]]
        return tuple(names)


def load(path: Path) -> Policy:
    """Read policy.toml. Raises SettingsError naming file, key and the nearest known key."""
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: no such policy file; write one with `secure-fair config init --policy {path}`"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML ({error}); mend that line") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(_File, table, str(path)).policy


def simulated(policy: Policy) -> str:
    """A policy file for a simulation without one of its own."""
    table = policy.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    notice = "# Written by the simulation: it allows exactly what was asked for. A real auditor writes its own.\n"
    return notice + tomli_w.dumps({"policy": table})


class _File(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    policy: Policy


def _quote(text: str) -> str:
    return f"{text[:60]!r}"  # the peer's text goes into logs and messages: bounded, and escaped by repr
