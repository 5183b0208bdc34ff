"""Attack on the release `gradient`: the attributes, and a predictor trained on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from secure_fair.leakage import least_squares, matched_filter, predictor, sign_rank
from secure_fair.leakage.material import RECOGNISED, Floats, Guess, Integers, People, Recovery, first_of_each
from secure_fair.leakage.scoring import names_of_groups
from secure_fair.privacy.disclosures import Disclosure

BELIEF = f"the adversary, read from entropy gradients, groups named by {RECOGNISED} recognised people each"
NAMED = f"{sign_rank.NAME}, groups named by {RECOGNISED} recognised people each"


def attack_gradient(folder: Path, opened: list[Disclosure], people: People) -> Recovery:
    """Per-record gradients: the attributes themselves; outside the data, a predictor trained on them."""
    train, test, categories = people.of_split("train"), people.of_split("test"), people.categories
    steps = sign_rank.opened_steps(folder)
    everybody = len(people.labels.ids)
    others = [
        Guess(least_squares.NAME, reason="each record's gradient is opened by itself"),
        Guess(matched_filter.NAME, reason="each record's gradient is opened by itself, without noise"),
    ]
    name = sign_rank.NAME
    if opened[0].name.startswith("adversary"):
        codes = sign_rank.recover_adversary(steps, _follow(people, opened[0].shape[1]), categories)[train]
    elif opened[0].name.startswith("entropy"):
        name = BELIEF
        coordinates = sign_rank.entropy_coordinates(steps, categories, everybody)[train]
        codes = np.stack([_nearest(coordinates, people.truth[train, a], k) for a, k in enumerate(categories)], axis=1)
    else:
        labels = people.labels.labels if people.within_classes else None
        groups = sign_rank.recover_orthogonality(steps, labels, everybody, categories)[train]
        truth = np.ravel_multi_index(tuple(people.truth[train].T), categories)
        codes = _named(groups, truth, np.ones(len(train), dtype=bool), categories)
        blocks = np.zeros(len(train), dtype=np.int64) if labels is None else labels[train]
        recognised = first_of_each(groups * (blocks.max() + 1) + blocks, RECOGNISED)
        named = np.empty_like(codes)
        for block in np.unique(blocks):
            rows = blocks == block
            named[rows] = _named(groups[rows], truth[rows], recognised[rows], categories)
        others.append(Guess(NAMED, _one_hots(named, categories), scored=~recognised))
    outside = [
        predictor.fitted(
            people.features("train"),
            people.labels.labels[train],
            codes[:, number],
            k,
            people.features("test"),
            people.labels.labels[test],
        )
        for number, k in enumerate(categories)
    ]
    return Recovery(name, _one_hots(codes, categories), outside, None, others)


def _follow(people: People, width: int) -> sign_rank.Follow:
    """The adversary's start and steps, which are public, and x of the training records before training."""
    import torch

    from secure_fair.fairness.objectives import adversary_start
    from secure_fair.fairness.terms import AdversaryView

    options, frozen = people.settings.adversary, people.features("train")
    view = AdversaryView.of(people.settings, frozen.shape[1], len(people.labels.classes))
    columns = sum(1 if k == 2 else k for k in people.categories)
    features = np.zeros((len(people.labels.ids), width))
    if width == view.features:  # else the representation is none of this backbone's, and w is followed without
        features[people.of_split("train")] = view.of_batch(torch.from_numpy(frozen)).numpy()
    start = adversary_start(width, columns, people.settings.training.seed, view.biases)[:width].numpy()
    return sign_rank.Follow(start, features, options.learning_rate, options.weight_decay)


def _nearest(coordinates: Floats, truth: Integers, categories: int) -> Integers:
    """Codes [n] by the nearest mean of the first RECOGNISED people of each group in coordinates [n, J]."""
    known = first_of_each(truth, RECOGNISED)
    means = np.stack([coordinates[known & (truth == k)].mean(axis=0) for k in range(categories)])  # NaN: an empty group
    distances = np.square(coordinates[:, None, :] - means).sum(axis=2)
    codes: Integers = np.where(np.isnan(distances), np.inf, distances).argmin(axis=1)
    return codes


def _named(groups: Integers, truth: Integers, known: npt.NDArray[np.bool_], categories: tuple[int, ...]) -> Integers:
    """Codes [n, A] of recovered groups [n], named by the people whose truth is `known` [n]; -1: the first."""
    names = names_of_groups(groups[known], truth[known], int(np.prod(categories)))
    return np.stack(np.unravel_index(names[np.maximum(groups, 0)], categories), axis=1)


def _one_hots(codes: Integers, categories: tuple[int, ...]) -> list[Floats]:
    return [np.eye(k)[codes[:, number]] for number, k in enumerate(categories)]
