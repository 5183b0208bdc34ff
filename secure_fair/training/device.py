"""Where to compute, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

from secure_fair.errors import SettingsError

if TYPE_CHECKING:
    from secure_fair.settings import Settings


def resolve(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one. Raises SettingsError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise SettingsError(f'training.device = "{name}" cannot be used ({reason}); write "auto" or "cpu"') from None


def move(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device; to a GPU from pinned memory and without waiting for the copy."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def autocast(settings: Settings, device: torch.device) -> AbstractContextManager[object]:
    """bf16 on a GPU when the settings say so; the CPU computes in fp32."""
    if device.type == "cuda" and settings.training.precision == "bf16":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
