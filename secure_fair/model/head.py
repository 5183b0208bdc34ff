"""The linear head on the representation, and its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import nn

if TYPE_CHECKING:
    from pathlib import Path


def build(width: int, n_classes: int, seed: int) -> nn.Linear:
    """A linear layer [n, width] -> [n, n_classes], initialised from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(width, n_classes)


def save(head: nn.Linear, file: Path) -> None:
    """Write `weight` [C, d] and `bias` [C]."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}, file)


def load(file: Path) -> nn.Linear:
    """Read what `save` wrote."""
    state = load_file(file)
    head = nn.Linear(state["weight"].shape[1], state["weight"].shape[0])
    head.load_state_dict(state)
    return head
