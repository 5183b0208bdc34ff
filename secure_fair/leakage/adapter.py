"""Attacks on the releases `adapter` and `predictor`: the sensitive LoRA, put on the backbone, tells of anybody.

`predictor` has a head, which names it. `adapter` has none, and needs none: features with the LoRA on fall apart by the
attribute, and a few recognised people of each group name the parts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from secure_fair.leakage import least_squares, matched_filter
from secure_fair.leakage.material import RECOGNISED, Floats, Guess, Integers, People, Recovery, first_of_each
from secure_fair.privacy.disclosures import Disclosure, load_value

NAME = f"features under the sensitive LoRA, groups named by {RECOGNISED} recognised people each"
PREDICTOR_NAME = "the auditor's own predictor"
_OTHERS = [
    Guess(attack.NAME, reason="nothing is opened that is about a record of the developer's")
    for attack in (least_squares, matched_filter)
]


def attack_adapter(folder: Path, opened: list[Disclosure], people: People) -> Recovery:
    """Nearest mean of the recognised people, among the developer's own training people and outside."""
    flat, _ = load_value(folder, opened[0])
    inside, outside = (_adapted(people, flat.astype(np.float32), split) for split in ("train", "test"))
    train = people.of_split("train")
    scores = [_scores(inside, outside, people.truth[train, number], k) for number, k in enumerate(people.categories)]
    return Recovery(NAME, [own for own, _ in scores], [other for _, other in scores], None, _OTHERS)


def attack_predictor(folder: Path, opened: list[Disclosure], people: People) -> Recovery:
    """What the auditor's own LoRA and head say of the developer's training people, and of people outside."""
    flat, _ = load_value(folder, opened[0])
    inside, outside = _predicted(people, flat.astype(np.float32))
    return Recovery(PREDICTOR_NAME, inside, outside, None, _OTHERS)


def _predicted(people: People, flat: Floats) -> tuple[list[Floats], list[Floats]]:
    """Of the training and the test people, the probabilities [n, K] of each attribute."""
    import torch

    from secure_fair.model import lora
    from secure_fair.model.classifier import build_classifier
    from secure_fair.training.sensitive import soft_attributes
    from secure_fair.training.setup import developer_side

    _, splits = developer_side(people.settings)
    model = build_classifier(people.settings, sum(people.categories))
    model.become(lora.unflatten(torch.from_numpy(flat), model.predictor()))
    bounds = np.cumsum(people.categories)[:-1]
    inside, outside = (
        np.split(soft_attributes(people.settings, model, images, people.categories).astype(np.float64), bounds, axis=1)
        for images in (splits.train, splits.test)
    )
    return inside, outside


def _adapted(people: People, flat: Floats, split: str) -> Floats:
    """What the LoRA changes in the features of a split's images, [n, d]."""
    import torch

    from secure_fair.data.images import batches
    from secure_fair.model import lora
    from secure_fair.training import device
    from secure_fair.training.setup import developer_side

    settings = people.settings
    model, splits = developer_side(settings)
    factors = lora.unflatten(torch.from_numpy(flat), model.factors())
    lora.subtract(model.adapted, factors, -1.0, settings.lora)
    chosen = device.resolve(settings.training.device)
    model.to(chosen).eval()
    blocks = []
    images = {"train": splits.train, "test": splits.test}[split]
    for batch in batches(images, settings.training.batch_size, epoch=None, seed=0, workers=settings.data.workers):
        with device.autocast(settings, chosen), torch.inference_mode():
            blocks.append(model.frozen_features(batch.images.to(chosen)).float().cpu().numpy())
    changed: Floats = np.concatenate(blocks).astype(np.float64) - people.features(split)
    return changed


def _scores(inside: Floats, outside: Floats, truth: Integers, categories: int) -> tuple[Floats, Floats]:
    """Minus the squared distance to each group's mean: [n, K] inside, [m, K] outside."""
    known = first_of_each(truth, RECOGNISED)
    scale = inside.std(axis=0) + 1e-12
    means = [
        inside[known & (truth == k)].mean(axis=0) if (truth[known] == k).any() else None for k in range(categories)
    ]

    def scored(x: Floats) -> Floats:
        return np.stack(
            [
                np.full(len(x), -np.inf) if mean is None else -np.square((x - mean) / scale).mean(axis=1)
                for mean in means
            ],
            axis=1,
        )

    return scored(inside), scored(outside)
