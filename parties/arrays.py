"""Files of arrays in a party's folder: read whole or refused, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from secure_fair.errors import RunError
from secure_fair.files import replacing


def read_arrays(file: Path, *names: str, mend: str) -> dict[str, Any] | None:
    """Arrays of a file of ours; None: there is no file. Raises RunError, with `mend`, for one that cannot be read."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except FileNotFoundError:
        return None
    except Exception:  # noqa: BLE001 (damage makes numpy raise anything, in words of its own)
        raise RunError(f"{file}: damaged, or of another version; {mend}") from None


def save_arrays(file: Path, *, private: bool = False, **arrays: Any) -> None:
    """Whole or not at all; `private`: for nobody else to read."""
    with replacing(file) as partial:
        if private:
            partial.touch(mode=0o600)
        with partial.open("wb") as stream:
            np.savez(stream, **arrays)
