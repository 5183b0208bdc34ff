"""What a developer keeps of an audit until its answer has come, in a file of its folder that only it may read."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

from parties.arrays import read_arrays, save_arrays

SHARE_FILE = "audit_share.npz"


@dataclass(repr=False)
class Kept:
    """Of the newest attempt the session and our share, int32; of all attempts the salt of the predictions' digest.

    noise: of an exact audit, int32 as the share; under it the auditor has seen the counts of what the digest `seen`
    says. Other noise in each attempt would let it take the mean, and other counts under this noise their difference.
    """

    session: str
    salt: bytes
    share: torch.Tensor
    noise: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int32))
    seen: str = ""

    def save(self, out: Path) -> None:
        """Whole or not at all."""
        salt, share, noise = np.frombuffer(self.salt, np.uint8), self.share.numpy(), self.noise.numpy()
        arrays = {"session": self.session, "salt": salt, "share": share, "noise": noise, "seen": self.seen}
        save_arrays(out / SHARE_FILE, private=True, **arrays)

    @staticmethod
    def load(out: Path) -> Kept | None:
        """None where nothing is kept. Raises RunError for a damaged file."""
        names = [field.name for field in fields(Kept)]
        found = read_arrays(out / SHARE_FILE, *names, mend="take another --out")
        if found is None:
            return None
        share, noise = (torch.from_numpy(found[name]) for name in ("share", "noise"))
        return Kept(str(found["session"]), found["salt"].tobytes(), share, noise, str(found["seen"]))
