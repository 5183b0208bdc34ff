"""The developer's own log of every value that a secure computation opened to it: one JSON line a value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from secure_fair.errors import RunError

LOG_NAME = "disclosures.jsonl"
VALUES_NAME = "disclosures"
Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Disclosure:
    """One value: what it is, its digest, and the file that holds it where values are stored.

    unit: what one integer step of the value is worth; epsilon_spent: None where there is no bound.
    """

    step: int
    name: str
    to: str
    shape: tuple[int, ...]
    release: str
    epsilon_spent: float | None
    sha256: str
    unit: float
    value: str | None


class DisclosureLog:
    """Appends to RUN/developer/disclosures.jsonl; with `store` each value is kept too, for attacks to be run on it."""

    def __init__(self, folder: Path, release: str, *, store: bool) -> None:
        self._folder, self._release, self._store = folder, release, store
        if store:
            (folder / VALUES_NAME).mkdir(parents=True, exist_ok=True)
        self._stream = (folder / LOG_NAME).open("a")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def add(
        self, step: int, name: str, value: Array, records: Array, *, unit: float = 1.0, epsilon: float | None = None
    ) -> None:
        """Log a value about the records at these positions of the agreed order (stored with it)."""
        stored = None
        if self._store:
            stored = f"{VALUES_NAME}/{step:07d}.npz"
            np.savez(self._folder / stored, value=value, records=records)
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        line = Disclosure(step, name, "developer", value.shape, self._release, epsilon, digest, unit, stored)
        self._stream.write(json.dumps(asdict(line)) + "\n")
        self._stream.flush()


def read(folder: Path) -> Iterator[Disclosure]:
    """The log of RUN/developer. Raises RunError when it is missing or broken."""
    path = folder / LOG_NAME
    try:
        lines = path.read_text().splitlines()
    except OSError:
        raise RunError(f"{path}: no disclosure log; only a secure run has one") from None
    for number, line in enumerate(lines, start=1):
        try:
            table = json.loads(line)
            yield Disclosure(**{**table, "shape": tuple(table["shape"])})
        except (ValueError, TypeError, KeyError):
            raise RunError(f"{path}, line {number}: not a disclosure; the file is damaged") from None


def load_value(folder: Path, disclosure: Disclosure) -> tuple[Array, Array]:
    """(value, positions of its records). Raises RunError when values were not stored."""
    if disclosure.value is None:
        raise RunError(f"{folder}: the run did not store what was opened; run it with --set privacy.store_values=true")
    with np.load(folder / disclosure.value, allow_pickle=False) as arrays:
        return arrays["value"], arrays["records"]
