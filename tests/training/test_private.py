"""DP-SGD of the sensitive LoRA: its account, its clipping and its noise, on the gradients of real trainings."""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from secure_fair.data.images import ImageSet, batches
from secure_fair.errors import BudgetError, SettingsError
from secure_fair.model.classifier import FairClassifier, build_classifier
from secure_fair.privacy.accountant import UNIT, Budget
from secure_fair.privacy.ledger import Ledger
from secure_fair.settings import Settings, parse
from secure_fair.training.private import (
    ROUNDING,
    NoisyOptimizer,
    epoch_cost,
    gaussian,
    noise_multiplier,
    protected,
    run_cost,
)
from secure_fair.training.sensitive import train_sensitive
from secure_fair.training.setup import developer_side
from tests.privacy.test_accountant import opendp_epsilon
from tests.releases.test_noise import FALSE_ALARM, follows_the_law

DELTA = 1e-5
CLIP = 0.5
BATCH = 16


def private(settings: Settings, epsilon: float = 2.0, epochs: int = 2) -> Settings:
    table = settings.model_dump(mode="json")
    table["privacy"] |= {"epsilon": epsilon, "delta": DELTA}
    table["training"]["epochs"] = epochs
    table["sensitive"] = {"private": True, "clip": CLIP}
    return parse(Settings, table, "here")


@pytest.mark.parametrize(("epsilon", "epochs"), [(0.1, 1), (2.0, 1), (2.0, 5), (8.0, 100)])
def test_the_noise_is_what_epsilon_asks_for(settings: Settings, tmp_path: Path, epsilon: float, epochs: int) -> None:
    """OpenDP's composition of the epochs, whose sums move by two clips, gives the epsilon; half the noise does not."""
    chosen = private(settings, epsilon, epochs)
    sigma = noise_multiplier(epoch_cost(chosen)) / ROUNDING
    assert opendp_epsilon(2.0, sigma, epochs, DELTA) == pytest.approx(epsilon, rel=1e-4)
    assert opendp_epsilon(2.0, sigma, epochs, DELTA) <= epsilon * (1 + 1e-9)
    assert opendp_epsilon(2.0, sigma / 2, epochs, DELTA) > 1.9 * epsilon
    assert run_cost(chosen).rho / UNIT == pytest.approx(epochs * 2 / sigma**2, rel=1e-6)
    with Ledger(tmp_path / "ledger.sqlite", by_person=True) as ledger:
        ledger.check(["ada"], run_cost(chosen), Budget(epsilon, DELTA))
        with pytest.raises(BudgetError):
            ledger.check(["ada"], run_cost(chosen), Budget(0.99 * epsilon, DELTA))


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(6, 3, 48, 48, generator=generator), torch.randint(0, 2, (6,), generator=generator)


def trained_a_little(settings: Settings) -> FairClassifier:
    """LoRA's B starts at 0, and then A has no gradient."""
    model = build_classifier(settings, 2)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def clipped_sum(settings: Settings, images: Tensor, labels: Tensor) -> Tensor:
    """What the optimiser makes of a batch, before noise: all parameters in one vector."""
    model = trained_a_little(settings).train()
    forward, optimiser = protected(model, torch.optim.SGD(model.trainable().values(), lr=1.0), settings)
    assert isinstance(optimiser, NoisyOptimizer)
    torch.nn.functional.cross_entropy(forward(images.clone().requires_grad_()), labels).backward()
    optimiser.clip_and_accumulate()
    return torch.cat([parameter.summed_grad.reshape(-1) for parameter in optimiser.params])


def by_hand(settings: Settings, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Each record's gradient, alone and by autograd, clipped."""
    model = trained_a_little(settings).train()
    clipped = []
    for image, label in zip(images, labels, strict=True):
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(image[None]), label[None]).backward()
        parameters = model.trainable().values()
        gradient = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
        clipped.append(gradient * min(1.0, CLIP / float(gradient.norm())))
    return clipped


@pytest.fixture(name="still")
def _still(settings: Settings) -> Settings:
    """Without dropout, so that two passes are the same."""
    return private(settings.model_copy(update={"lora": settings.lora.model_copy(update={"dropout": 0.0})}))


def test_sums_are_those_of_clipped_gradients(still: Settings) -> None:
    images, labels = inputs()
    images[1] *= 1e4
    expected = torch.stack(by_hand(still, images, labels))
    assert (expected.norm(dim=1) > 0.999 * CLIP).any()  # some are clipped
    assert torch.allclose(clipped_sum(still, images, labels), expected.sum(dim=0), atol=1e-4 * CLIP)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e30, math.inf, math.nan])
def test_a_record_moves_the_sum_by_no_more_than_its_clip(still: Settings, scale: float) -> None:
    """Whatever it shows: ROUNDING is what single precision may add."""
    images, labels = inputs()
    others = clipped_sum(still, images[1:], labels[1:])
    images[0] *= scale
    moved = clipped_sum(still, images, labels) - others
    assert moved.isfinite().all()
    assert moved.norm() <= CLIP * ROUNDING
    flipped = clipped_sum(still, images, torch.cat([1 - labels[:1], labels[1:]])) - others
    assert (moved - flipped).norm() <= 2 * CLIP * ROUNDING


def steps_of(action: Callable[[], object]) -> list[Tensor]:
    """The gradient that each step of an optimiser was given, noise included."""
    seen = []

    def see(optimiser: Optimizer, *_: object) -> None:
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        seen.append(torch.cat([p.grad.reshape(-1).clone() for p in parameters]))

    handle = register_optimizer_step_pre_hook(see)
    try:
        action()
    finally:
        handle.remove()
    return seen


def training(settings: Settings, persons: Sequence[str] | None = None) -> tuple[list[Tensor], FairClassifier]:
    """A real training on 40 images, each somebody's own unless told otherwise."""
    images = developer_side(settings)[1].train
    attributes = [torch.nn.functional.one_hot(images.labels, 2)]
    made: list[FairClassifier] = []
    people = images.ids if persons is None else persons
    found = steps_of(lambda: made.append(train_sensitive(settings, images, attributes, persons=people)))
    return found, made[0]


def test_every_step_has_the_noise_of_its_account(settings: Settings) -> None:
    """At epsilon 0.004 a batch's gradients are 16 clips at most, under noise of 2000: what is seen is the noise.

    rho = 4 / (2 sigma^2) an epoch; chi-square in 40 bins with FALSE_ALARM, here of 38,000 numbers.
    """
    chosen = private(settings, epsilon=0.004)
    found, _ = training(chosen)
    assert len(found) == 2 * 3  # 40 people in batches of 16
    sigma = math.sqrt(2 / (run_cost(chosen).rho / UNIT / 2))
    assert sigma > 1000
    scale = sigma * CLIP / BATCH
    for step in found:
        noise = step.numpy().astype(np.float64) / scale * 1000
        assert follows(noise, 1000), f"false alarm {FALSE_ALARM}"
        assert not follows(noise, 500)
    assert not follows(torch.cat(found).numpy().astype(np.float64) / scale * 1000, 1100)
    for first, second in itertools.pairwise(found):
        correlation = np.corrcoef(first.numpy(), second.numpy())[0, 1]
        assert abs(correlation) < 5.5 / math.sqrt(len(first))  # false alarm below 1e-7


def follows(noise: NDArray[np.float64], scale: float) -> bool:
    return follows_the_law(np.round(noise).astype(np.int64), scale)


def test_no_seed_makes_the_noise_again(settings: Settings) -> None:
    (first, _), (second, _) = training(private(settings)), training(private(settings))
    assert not torch.equal(first[0], second[0])


def test_it_learns_where_the_noise_is_small(settings: Settings) -> None:
    """Clipping and Opacus's hooks leave a training that trains: at a huge epsilon the model tells the two classes."""
    chosen = private(settings, epsilon=1e4, epochs=8)
    _, model = training(
        chosen.model_copy(update={"training": chosen.training.model_copy(update={"learning_rate": 3e-2})})
    )
    images = developer_side(chosen)[1].train
    model.eval()
    with torch.inference_mode():
        guesses = model(torch.stack([images[position][0] for position in range(len(images))])).argmax(dim=1)
    assert (guesses == images.labels).float().mean() > 0.85


def test_draws_are_normal() -> None:
    draws = gaussian((200, 100)).ravel()
    assert follows(draws * 1000, 1000)
    assert not follows(draws * 1000, 900)
    assert np.isfinite(draws).all()


def train_images(settings: Settings) -> ImageSet:
    return developer_side(settings)[1].train


def test_an_epoch_has_each_person_once(settings: Settings) -> None:
    """And over the epochs all of a person's records, chosen without looking at anything."""
    images = train_images(settings)
    persons = [f"p{position % 7}" for position in range(len(images))]
    seen: Counter[int] = Counter()
    for epoch in range(60):
        epochs = [*batches(images, 3, epoch=epoch, seed=1, persons=persons)]
        positions = [int(position) for batch in epochs for position in batch.positions]
        assert sorted(persons[position] for position in positions) == sorted(set(persons))
        assert [len(batch.positions) for batch in epochs] == [3, 3, 1]
        seen.update(positions)
    assert set(seen) == set(range(len(images)))


def test_a_training_has_the_steps_of_its_people(settings: Settings) -> None:
    found, _ = training(private(settings), [f"p{position % 20}" for position in range(40)])
    assert len(found) == 2 * 2  # 20 people in batches of 16


def test_without_opacus_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus.grad_sample", None)
    monkeypatch.delitem(sys.modules, "secure_fair.training.private")
    with pytest.raises(SettingsError, match=r"secure-fair\[dp\]"):
        import_module("secure_fair.training.private")
