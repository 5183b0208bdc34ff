"""Frozen timm Vision Transformers that turn an image into one pooled representation."""

from __future__ import annotations

import difflib
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import timm.data
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import VisionTransformer

from secure_fair.errors import SettingsError

if TYPE_CHECKING:
    from secure_fair.sections import ModelSettings

DEMO_NAME = "demo_vit"
DEMO_SIZE = 48
# Seventeen tokens an image: one core fine-tunes about a thousand images a second.
DEMO_ARCHITECTURE = {
    "img_size": DEMO_SIZE,
    "patch_size": 12,
    "embed_dim": 96,
    "depth": 4,
    "num_heads": 3,
    "num_classes": 0,
    "global_pool": "avg",
}


def build(settings: ModelSettings, image_size: int, seed: int = 0) -> VisionTransformer:
    """The backbone without a classifier, every parameter frozen; its forward gives [n, 3, S, S] -> [n, d].

    `weights` is `imagenet` (timm's hub), `random` (from `seed`), `demo` (shipped, for the backbone `demo_vit`) or a
    safetensors file with timm's parameter names. Raises SettingsError naming the key and the mend.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _demo(settings, image_size) if settings.backbone == DEMO_NAME else _from_timm(settings, image_size)
    return model.requires_grad_(False).eval()


def data_config(backbone: VisionTransformer) -> dict[str, Any]:
    """timm's data configuration of the backbone: mean, std and interpolation that its weights were trained with."""
    config: dict[str, Any] = timm.data.resolve_model_data_config(backbone)
    return config


def demo_architecture() -> VisionTransformer:
    """The shipped checkpoint's architecture, with random weights."""
    return VisionTransformer(**DEMO_ARCHITECTURE)


def _demo(settings: ModelSettings, image_size: int) -> VisionTransformer:
    if image_size != DEMO_SIZE:
        raise SettingsError(f"data.image_size = {image_size}: the backbone `{DEMO_NAME}` takes {DEMO_SIZE} pixels")
    model = demo_architecture()
    if settings.weights == "demo":
        with as_file(files("secure_fair") / "assets" / "demo_vit.safetensors") as file:
            _load(model, file)
    elif settings.weights == "imagenet":
        raise SettingsError(f'model.weights = "imagenet": `{DEMO_NAME}` has no such weights; write weights = "demo"')
    elif settings.weights != "random":
        _load(model, Path(settings.weights))
    return model


def _load(model: VisionTransformer, file: Path) -> None:
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in load_file(_existing(file)).items()})
    except (SafetensorError, RuntimeError) as error:
        raise SettingsError(f"model.weights: {file} does not fit `{DEMO_NAME}`: {str(error).splitlines()[0]}") from None


def _from_timm(settings: ModelSettings, image_size: int) -> VisionTransformer:
    name, weights = settings.backbone, settings.weights
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], [*timm.list_models("*vit*"), DEMO_NAME], n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models('vit*')"
        raise SettingsError(f"model.backbone: timm has no model `{name}`; {hint}")
    if weights == "demo":
        raise SettingsError(f'model.weights = "demo" belongs to the backbone `{DEMO_NAME}`, not to `{name}`')
    overlay = None if weights in ("imagenet", "random") else {"file": str(_existing(Path(weights)))}
    try:
        model = timm.create_model(
            name, pretrained=weights != "random", pretrained_cfg_overlay=overlay, num_classes=0, img_size=image_size
        )
    except TypeError:  # other families know no img_size
        raise SettingsError(
            f"model.backbone: `{name}` is not a Vision Transformer; choose one of timm's vit_*"
        ) from None
    except (OSError, RuntimeError, SafetensorError) as error:
        source = f"the file {weights}" if overlay else "the hub"
        raise SettingsError(
            f"model.weights: `{name}` could not be loaded from {source} ({str(error).splitlines()[0]}); "
            "name a local safetensors file with timm's parameter names, or check the connection"
        ) from None
    if not isinstance(model, VisionTransformer):
        raise SettingsError(f"model.backbone: `{name}` is not a Vision Transformer; choose one of timm's vit_*")
    if any(image_size % patch for patch in model.patch_embed.patch_size):
        patch = model.patch_embed.patch_size[0]
        raise SettingsError(f"data.image_size = {image_size} is not a multiple of the patch of `{name}`, {patch}")
    return model


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise SettingsError(f'model.weights: no file {file}; write "imagenet", "random" or a safetensors file')
    return file
