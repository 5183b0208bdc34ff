"""Small trainings whose disclosure logs are the real ones in all but the parties: same mathematics, same integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from secure_fair.fairness import objectives
from secure_fair.fairness.terms import released_gradient
from secure_fair.leakage.sign_rank import Follow
from secure_fair.privacy.disclosures import DisclosureLog

Integers = npt.NDArray[np.int64]
BATCH = 64
RATE, DECAY = 1.0, 0.05  # of the adversary: the defaults
WIDTH = 48


@dataclass(frozen=True)
class People:
    """Images as vectors x [n, m] that show attributes [n, A] and a task label [n] correlated with the first one."""

    x: Tensor
    attributes: Integers
    labels: Integers
    categories: tuple[int, ...]

    @property
    def onehots(self) -> list[Integers]:
        return [np.eye(k, dtype=np.int64)[s] for k, s in zip(self.categories, self.attributes.T, strict=True)]


def people(n: int, categories: tuple[int, ...], seed: int, correlation: float = 0.85) -> People:
    generator = np.random.default_rng(seed)
    attributes = np.stack([generator.integers(0, k, n) for k in categories], axis=1)
    first = attributes[:, 0] * 2 >= categories[0]
    labels = np.where(generator.random(n) < correlation, first, generator.integers(0, 2, n)).astype(np.int64)
    width = 32
    spectrum = np.arange(1, width + 1.0) ** -0.7
    x = generator.normal(size=(n, width)) * spectrum + generator.normal(size=width)
    for column, k in enumerate(categories):
        x += (0.6 * generator.normal(size=(k, width)) * spectrum)[attributes[:, column]]
    x += (0.6 * generator.normal(size=(2, width)) * spectrum)[labels]
    return People(torch.from_numpy(x).float(), attributes, labels, categories)


class Model:
    """A frozen map with a trainable update of low rank, and a linear head: LoRA training from outside."""

    def __init__(self, inputs: int, width: int, classes: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.frozen = torch.randn(inputs, width, generator=generator) / math.sqrt(inputs)
        self.down = (torch.randn(inputs, 4, generator=generator) / math.sqrt(inputs)).requires_grad_()
        self.up = torch.zeros(4, width, requires_grad=True)
        self.head = (torch.randn(width, classes, generator=generator) / math.sqrt(width)).requires_grad_()

    def represent(self, x: Tensor) -> Tensor:
        hidden = x @ self.frozen + x @ self.down @ self.up
        return torch.tanh(hidden) + 0.5 * hidden

    @property
    def parameters(self) -> list[Tensor]:
        return [self.down, self.up, self.head]


def train(
    folder: Path,
    data: People,
    method: str,
    *,
    epochs: int,
    weight: float,
    within_classes: bool = True,
    seed: int = 0,
    places: Integers | None = None,
) -> float:
    """Train and write the disclosure log of release `gradient` into `folder`; returns the last epoch's accuracy.

    places: positions of the people in the agreed order; 0..n-1 by default.
    """
    n, width = len(data.x), WIDTH
    places = np.arange(n) if places is None else places
    model = Model(data.x.shape[1], width, 2, seed)
    optimiser = torch.optim.AdamW(model.parameters, lr=1e-2)
    labels = torch.from_numpy(data.labels)
    onehots = [torch.from_numpy(table) for table in data.onehots]
    targets = torch.cat([objectives.adversary_targets(table) for table in onehots], dim=1)
    adversary = objectives.adversary_start(width, targets.shape[1], seed)
    right = 0
    step = 0
    folder.mkdir(parents=True, exist_ok=True)
    with DisclosureLog(folder, "gradient", store=True) as log:
        for epoch in range(epochs):
            order = np.random.default_rng([seed, epoch]).permutation(n)
            right = 0
            for start in range(0, n, BATCH):
                positions = order[start : start + BATCH]
                at = torch.from_numpy(positions)
                h, y = model.represent(data.x[at]), labels[at]
                if method == "orth":
                    fairness, opened, unit = _orth(h, torch.cat(onehots, dim=1)[at], y if within_classes else None)
                else:
                    fairness, opened, unit, adversary = _adv(h, targets[at], adversary, entropy=method == "ent")
                log.add(step, NAMES[method], opened.numpy(), places[positions], unit=unit)
                logits = h @ model.head
                right += int((logits.argmax(dim=1) == y).sum())
                loss = functional.cross_entropy(logits, y) + weight * fairness
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                step += 1
    return right / n


def follow(data: People, columns: int, seed: int) -> Follow:
    """What a developer has who trained with this seed."""
    with torch.no_grad():
        h = Model(data.x.shape[1], WIDTH, 2, seed).represent(data.x)
    start = objectives.adversary_start(WIDTH, columns, seed).numpy()[:-1]
    return Follow(start, objectives.normalise(h).double().numpy(), RATE, DECAY)


NAMES = {
    "orth": "orthogonality gradient, sum scale",
    "adv": "adversary gradient times step size",
    "ent": "entropy gradient times step size",
}


def _orth(h: Tensor, onehot: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, float]:
    """The exact integers of T (T^T H) for H rounded to 16 fractional bits."""
    centred = objectives.centre(objectives.normalise(h), labels)
    encoded = torch.round(objectives.with_bias(centred.detach().double()) * 2**16).long()
    opened = torch.empty_like(encoded)
    for rows in objectives.blocks(labels, len(h)):
        opened[rows] = onehot[rows] @ (onehot[rows].T @ encoded[rows])
    return objectives.orth_loss(h, onehot, labels), opened, 2.0**-16


def _adv(h: Tensor, targets: Tensor, w: Tensor, *, entropy: bool) -> tuple[Tensor, Tensor, float, Tensor]:
    """(rate / n) (p - t) w^T in fixed point, for ENT with z p (1 - p), and the adversary's next weights."""
    u = objectives.normalise(h)
    u1 = objectives.with_bias(u.detach().double())
    sums, weight_sums = objectives.adversary_gradients(u1, w, targets)
    if entropy:
        sums = objectives.entropy_gradient(u1, w)
    opened = torch.round(sums[:, :-1] * (RATE / len(h)) * 2.0**48).long()
    descent = objectives.entropy_descent if entropy else objectives.adversary_reversed
    value, gradient = descent(sums[:, :-1])
    fairness = released_gradient(u, gradient, value)
    return fairness, opened, 2.0**-48, objectives.adversary_update(w, weight_sums, len(h), RATE, DECAY)
