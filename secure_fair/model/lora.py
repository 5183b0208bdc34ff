"""LoRA (Hu et al. 2021) on a frozen backbone, through peft, in peft's own file format."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import peft
import torch
from safetensors.torch import save_file

from secure_fair.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from secure_fair.sections import LoraSettings


Factors = dict[str, torch.Tensor]  # peft's names ("....lora_A.weight" [r, in], "....lora_B.weight" [out, r]), float32
_A, _B = ".lora_A.weight", ".lora_B.weight"
_PREFIX = "base_model.model."
SENSITIVE = "sensitive.safetensors"  # the auditor's sensitive LoRA, in its own folder


def factors(adapted: peft.PeftModel) -> Factors:
    """Copies of the adapter's factors, on the CPU, in the order of their names."""
    state = peft.get_peft_model_state_dict(adapted)
    return {name: state[name].detach().to("cpu", torch.float32).clone() for name in sorted(state)}


def flatten(found: Factors) -> Tensor:
    """All factors one after the other, in the order of their names: [values]."""
    return torch.cat([found[name].reshape(-1) for name in sorted(found)])


def unflatten(flat: Tensor, like: Factors) -> Factors:
    """What `flatten` laid flat, with the names and shapes of `like`."""
    names = sorted(like)
    parts = flat.split([like[name].numel() for name in names])
    return {name: part.reshape(like[name].shape) for name, part in zip(names, parts, strict=True)}


def layers(found: Factors) -> list[str]:
    """Names of the adapted layers, as the backbone has them."""
    return [name.removeprefix(_PREFIX).removesuffix(_A) for name in found if name.endswith(_A)]


def pair(found: Factors, layer: str) -> tuple[Tensor, Tensor]:
    """A [r, in] and B [out, r] of a layer."""
    return found[f"{_PREFIX}{layer}{_A}"], found[f"{_PREFIX}{layer}{_B}"]


@torch.no_grad()
def subtract(adapted: peft.PeftModel, found: Factors, weight: float, settings: LoraSettings) -> None:
    """Take `weight` times the update of another LoRA of the same shape off the frozen weights, in place."""
    scale = weight * settings.alpha / settings.rank
    for layer in layers(found):
        a, b = pair(found, layer)
        base = adapted.get_submodule(f"{_PREFIX}{layer}").base_layer.weight
        base -= (scale * (b @ a)).to(base)


def save_negative(found: Factors, weight: float, config: Path, folder: Path) -> None:
    """Write a LoRA as a peft adapter that subtracts it when merged; `config`: an adapter_config.json of its shape."""
    folder.mkdir(parents=True, exist_ok=True)
    negative = {name: -weight * value if name.endswith(_B) else value for name, value in found.items()}
    save_file({name: value.contiguous() for name, value in negative.items()}, folder / "adapter_model.safetensors")
    shutil.copyfile(config, folder / config.name)


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
