"""What a developer keeps of an audit until its answer has come, in a file of its folder that only it may read."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from secure_fair.errors import RunError
from secure_fair.files import replacing

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
        salt, noise = np.frombuffer(self.salt, np.uint8), self.noise.numpy()
        with replacing(out / SHARE_FILE) as partial:
            partial.touch(mode=0o600)
            with partial.open("wb") as stream:
                np.savez(stream, session=self.session, salt=salt, share=self.share.numpy(), noise=noise, seen=self.seen)

    @staticmethod
    def load(out: Path) -> Kept | None:
        """None where nothing is kept. Raises RunError for a damaged file."""
        if not (out / SHARE_FILE).exists():
            return None
        try:
            with (out / SHARE_FILE).open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                share, noise = (torch.from_numpy(arrays[name]) for name in ("share", "noise"))
                return Kept(str(arrays["session"]), arrays["salt"].tobytes(), share, noise, str(arrays["seen"]))
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise RunError(f"{out / SHARE_FILE}: damaged, or of another version; take another --out") from None
