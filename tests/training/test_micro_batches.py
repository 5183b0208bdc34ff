"""`training.micro_batch_size`: the same training with the activations of a part of the batch in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from secure_fair.model.classifier import Snapshot, build_classifier, represented
from secure_fair.settings import Settings
from tests.training.test_baseline import curve, run


@pytest.fixture
def plain(settings: Settings) -> Settings:
    return settings.model_copy(update={"lora": settings.lora.model_copy(update={"dropout": 0.0})})


@pytest.mark.parametrize("method", ["orth", "adv"])
@pytest.mark.parametrize("delayed", [False, True])
def test_a_run_in_parts_is_the_run(plain: Settings, prepared: Path, tmp_path: Path, method: str, delayed: bool) -> None:
    """Up to the order of float32 sums; 16 images in parts of 5, so that a part is shorter."""
    curves = []
    for part in (0, 5):
        training = plain.training.model_copy(update={"micro_batch_size": part, "delayed": delayed, "precision": "fp32"})
        out = tmp_path / str(part)
        run(plain.model_copy(update={"training": training}), method, prepared, out)
        curves.append([tuple(map(float, row)) for row in curve(out)])
    assert len(curves[0]) == 6
    for whole, parts in zip(*curves, strict=True):
        assert parts == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("snapshot", [False, True])
def test_activations_are_not_kept(settings: Settings, snapshot: bool) -> None:
    """Nothing but the images, which are there anyway."""
    built = build_classifier(settings, 2).train()
    model = Snapshot(built) if snapshot else built
    images = torch.randn(12, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    kept = []
    for part in (12, 3):
        seen = 0

        def pack(value: Tensor) -> Tensor:
            nonlocal seen
            seen += value.nbytes
            return value

        with saved_tensors_hooks(pack, lambda value: value):
            represented(model, images, part)
        kept.append(seen)
    assert kept[1] <= images.nbytes < 0.1 * kept[0]


def test_parts_give_the_gradient_with_dropout(settings: Settings) -> None:
    """Masks of the second forward pass are those of the first: else the gradient would not be that of the value."""
    model = build_classifier(settings, 2).train()
    images = torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    parameters = [p for name, p in model.trainable().items() if "lora_B" in name]
    torch.manual_seed(2)
    by_parts = torch.autograd.grad(represented(model, images, 2).square().sum(), parameters)
    torch.manual_seed(2)
    pieces = torch.cat([model.represent(piece) for piece in images.split(2)])
    for one, other in zip(by_parts, torch.autograd.grad(pieces.square().sum(), parameters), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)
