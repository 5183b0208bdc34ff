"""Attack on the release `gradient`: the attributes, and a predictor trained on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from secure_fair.leakage import least_squares, matched_filter, predictor, sign_rank
from secure_fair.leakage.material import Floats, Guess, Integers, People, Recovery
from secure_fair.leakage.scoring import names_of_groups
from secure_fair.privacy.disclosures import Disclosure

RECOGNISED = 5  # people of each group (of a task class, for "odds") whom the developer recognises
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
    if opened[0].name.startswith("adversary"):
        start = _adversary_start(people, opened[0].shape[1])
        rate = people.settings.adversary.learning_rate
        codes = sign_rank.recover_adversary(steps, start, categories, everybody, rate)[train]
    else:
        labels = people.labels.labels if people.within_classes else None
        groups = sign_rank.recover_orthogonality(steps, labels, everybody, categories)[train]
        truth = np.ravel_multi_index(tuple(people.truth[train].T), categories)
        codes = _named(groups, truth, np.ones(len(train), dtype=bool), categories)
        blocks = np.zeros(len(train), dtype=np.int64) if labels is None else labels[train]
        recognised = _first_of_each(groups * (blocks.max() + 1) + blocks, RECOGNISED)
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
    return Recovery(sign_rank.NAME, _one_hots(codes, categories), outside, None, others)


def _adversary_start(people: People, width: int) -> Floats:
    """First weights [d, J] without the bias: public, since both parties draw them from the run's seed."""
    from secure_fair.fairness.objectives import adversary_start

    columns = sum(1 if k == 2 else k for k in people.categories)
    start: Floats = adversary_start(width, columns, people.settings.training.seed)[:-1].numpy()
    return start


def _named(groups: Integers, truth: Integers, known: npt.NDArray[np.bool_], categories: tuple[int, ...]) -> Integers:
    """Codes [n, A] of recovered groups [n], named by the people whose truth is `known` [n]; -1: the first."""
    names = names_of_groups(groups[known], truth[known], int(np.prod(categories)))
    return np.stack(np.unravel_index(names[np.maximum(groups, 0)], categories), axis=1)


def _first_of_each(groups: Integers, count: int) -> npt.NDArray[np.bool_]:
    """Mark the first `count` members of each group; ids are in random order."""
    marked = np.zeros(len(groups), dtype=bool)
    for group in np.unique(groups):
        marked[np.flatnonzero(groups == group)[:count]] = True
    return marked


def _one_hots(codes: Integers, categories: tuple[int, ...]) -> list[Floats]:
    return [np.eye(k)[codes[:, number]] for number, k in enumerate(categories)]
