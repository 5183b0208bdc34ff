"""What torchrun tells the processes that it starts."""

from __future__ import annotations

import os


def several() -> bool:
    """Whether this process is one of several that `torchrun` has started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1
