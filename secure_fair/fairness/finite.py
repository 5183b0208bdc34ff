"""JSON has no NaN."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:
    """The same mappings, sequences and numbers for JSON, which has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
