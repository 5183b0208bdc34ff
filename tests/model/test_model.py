"""Backbone, adapter and head: frozen where they must be, seeded, saved in formats that others read."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import timm
import torch
from safetensors.torch import save_file

from secure_fair.errors import SettingsError
from secure_fair.model import backbone, lora
from secure_fair.model.classifier import FairClassifier, build_classifier, load_classifier
from secure_fair.sections import LoraSettings, ModelSettings
from secure_fair.settings import Settings, parse

SMALL = "vit_tiny_patch16_224"  # 5.5 million parameters


def settings(**model: str) -> Settings:
    table = {"data": {"image_size": 48}, "model": {"backbone": "demo_vit", "weights": "random"} | model}
    return parse(Settings, table, "test")


def images(n: int = 2, size: int = 48) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def trained() -> FairClassifier:
    """A model whose adapter does something."""
    model = build_classifier(settings(), 3)
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return model.eval()


def test_only_adapter_and_head_are_trained() -> None:
    model = build_classifier(settings(), 3)
    names = set(model.trainable())
    assert {name for name in names if "lora_" not in name} == {"head.weight", "head.bias"}
    assert len(names) == 2 + 2 * 4  # A and B in each of four blocks
    h = model.represent(images())
    assert h.shape == (2, model.width) == (2, 96)
    assert model.logits(h).shape == (2, 3)


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = build_classifier(settings(), 2), build_classifier(settings(), 2)
    assert torch.equal(before, torch.get_rng_state())
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    other = build_classifier(parse(Settings, {**settings().model_dump(), "training": {"seed": 1}}, "test"), 2)
    assert not torch.equal(other.head.weight, first.head.weight)


def test_frozen_features_know_nothing_of_the_adapter(trained: FairClassifier) -> None:
    plain = backbone.build(settings().model, 48)
    with torch.no_grad():
        expected = plain(images())
        torch.testing.assert_close(trained.frozen_features(images()), expected)
        assert (trained.represent(images()) - expected).abs().max() > 1e-2


def test_a_new_adapter_leaves_the_backbone_unchanged() -> None:
    plain = backbone.build(settings().model, 48)
    model = build_classifier(settings(), 2).eval()
    torch.testing.assert_close(model.represent(images()), plain(images()))


def test_saved_models_load_here_and_with_peft_on_a_plain_timm_model(trained: FairClassifier, tmp_path: Path) -> None:
    trained.save(tmp_path)
    loaded = load_classifier(settings(), tmp_path).eval()
    plain = timm.models.VisionTransformer(**backbone.DEMO_ARCHITECTURE)
    plain.load_state_dict(backbone.build(settings().model, 48).state_dict())
    elsewhere = peft.PeftModel.from_pretrained(plain, str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        h = trained.represent(images())
        assert torch.equal(loaded.represent(images()), h)
        assert torch.equal(elsewhere(images()), h)
        assert torch.equal(loaded(images()), trained(images()))


def test_any_timm_vit_at_another_image_size() -> None:
    model = build_classifier(
        parse(
            Settings,
            {"data": {"image_size": 64}, "model": {"backbone": SMALL, "weights": "random"}, "lora": {"rank": 2}},
            "test",
        ),
        2,
    )
    assert model.represent(images(1, 64)).shape == (1, 192)
    assert model.data_config["mean"] == (0.5, 0.5, 0.5)  # this model's own, not the usual ones


def test_weights_come_from_a_safetensors_file_with_timms_names(tmp_path: Path) -> None:
    """Also when the file has a classifier and was made for another image size, as timm's own files are."""
    source = timm.create_model(SMALL, pretrained=False, num_classes=10)
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    model = backbone.build(ModelSettings(backbone=SMALL, weights=str(tmp_path / "vit.safetensors")), 64)
    assert torch.equal(model.blocks[3].attn.qkv.weight, source.blocks[3].attn.qkv.weight)
    assert model.pos_embed.shape == (1, 17, 192)


def test_the_shipped_checkpoint_loads_and_is_small() -> None:
    model = backbone.build(ModelSettings(backbone="demo_vit", weights="demo"), 48)
    assert torch.isfinite(model(images())).all()
    assert (Path(backbone.__file__).parents[1] / "assets" / "demo_vit.safetensors").stat().st_size < 3_000_000


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ({"backbone": "vit_tiny_patch16_22"}, 224, "did you mean vit_tiny_patch16_224"),
        ({"backbone": "resnet18", "weights": "random"}, 224, "not a Vision Transformer"),
        ({"backbone": SMALL, "weights": "random"}, 100, "not a multiple of the patch"),
        ({"backbone": SMALL, "weights": "demo"}, 224, "belongs to the backbone `demo_vit`"),
        ({"backbone": SMALL, "weights": "nowhere.safetensors"}, 224, "no file nowhere.safetensors"),
        ({"backbone": "demo_vit", "weights": "demo"}, 224, "takes 48 pixels"),
        ({"backbone": "demo_vit", "weights": "imagenet"}, 48, "has no such weights"),
    ],
)
def test_what_cannot_be_built_names_the_mend(model: dict[str, str], size: int, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        backbone.build(ModelSettings(**model), size)


@pytest.mark.parametrize("name", ["demo_vit", SMALL])
def test_a_file_that_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    save_file({"pos_embed": torch.zeros(1, 17, 96)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not one")
    for file in ("other", "broken"):
        with pytest.raises(SettingsError, match=r"model\.weights"):
            backbone.build(ModelSettings(backbone=name, weights=str(tmp_path / f"{file}.safetensors")), 48)


def test_a_target_that_names_no_module_is_refused() -> None:
    with pytest.raises(SettingsError, match="no module `q_proj`; a ViT of timm has qkv, proj, fc1, fc2"):
        lora.wrap(backbone.build(settings().model, 48), LoraSettings(targets=("q_proj",)), seed=0)
