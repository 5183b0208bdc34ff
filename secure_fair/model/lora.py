"""LoRA (Hu et al. 2021) on a frozen backbone, through peft, in peft's own file format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import peft
import torch

from secure_fair.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

    from secure_fair.settings import LoraSettings


def wrap(backbone: nn.Module, settings: LoraSettings, seed: int) -> peft.PeftModel:
    """Add LoRA to the modules named by `settings.targets`; the start leaves the backbone's output unchanged (B = 0).

    Raises SettingsError when a target names no module.
    """
    config = peft.LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=list(settings.targets)
    )
    suffixes = {name.rpartition(".")[2] for name, _ in backbone.named_modules()}
    for target in settings.targets:
        if target.rpartition(".")[2] not in suffixes:
            raise SettingsError(
                f"lora.targets: the backbone has no module `{target}`; a ViT of timm has qkv, proj, fc1, fc2"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return peft.get_peft_model(backbone, config)
