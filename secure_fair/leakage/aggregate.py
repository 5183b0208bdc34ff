"""Attacks on the private releases: the noisy moment, and flipped attributes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from secure_fair.errors import RunError
from secure_fair.leakage import least_squares, matched_filter, sign_rank
from secure_fair.leakage.material import Guess, People, Recovery
from secure_fair.privacy import disclosures
from secure_fair.privacy.accountant import UNIT, gaussian_cost, split_epsilon
from secure_fair.privacy.disclosures import Disclosure
from secure_fair.releases.moment import FeatureMap, MomentPlan, vectors

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SOFT_NAME = "soft attributes"
_CERTAIN = 0.02  # a soft attribute is taken to be at least so far from 0 and 1
_NO_RECORD = "no value of a single record is opened"


def attack_moment(folder: Path, opened: list[Disclosure], people: People) -> Recovery:
    """The matched filter on M, with the soft attributes as its model of everybody else.

    Of several releases (one an epoch) the first is attacked; the bound is that of all together.
    """
    settings, categories = people.settings, people.categories
    releases = settings.training.epochs if settings.privacy.refresh == "epoch" else 1
    cost = gaussian_cost(settings.privacy.epsilon, settings.privacy.delta, releases)
    moment, records = disclosures.load_value(folder, opened[0])
    classes = len(people.labels.classes) if people.within_classes else 1
    plan = MomentPlan(categories, classes, len(moment), 1, settings.privacy.clip)
    weighted = opened[0].unit < plan.unit
    plan = MomentPlan(categories, classes, len(moment), 1, settings.privacy.clip, weighted)
    # A person's m records weigh 1/m each; the developer knows the mean weight only.
    weight = len({people.persons[record] for record in records}) / len(records) if weighted else 1.0
    unit = plan.unit / (plan.clip * weight)
    noise = plan.noise_scale(cost) * unit
    sums = moment.astype(np.float64).reshape(len(moment), classes, plan.columns) * unit  # [D, C, J]
    feature_map = FeatureMap.fit(people.features("train"), settings.privacy.rank, settings.training.seed)
    u, outsiders = (vectors([feature_map], [people.features(split)]).astype(np.float64) for split in ("train", "test"))
    soft = _soft_attributes(folder, people)
    model = {split: [np.clip(table, _CERTAIN, 1 - _CERTAIN) for table in tables] for split, tables in soft.items()}
    expected = np.concatenate([table[:, 1:] if table.shape[1] == 2 else table for table in model["train"]], axis=1)
    members = _blocks(people, records.astype(np.int64), classes)
    others = _blocks(people, people.of_split("test"), classes)

    evidence = {"train": np.empty(expected.shape), "test": np.empty((len(outsiders), expected.shape[1]))}
    for block, (rows, out) in enumerate(zip(members, others, strict=True)):
        evidence["train"][rows], evidence["test"][out] = matched_filter.moment_evidence(
            u[rows], sums[:, block], expected[rows], noise, outsiders[out]
        )
    found = {
        split: [
            matched_filter.posterior(table, part)
            for table, part in zip(model[split], _by_attribute(evidence[split], categories), strict=True)
        ]
        for split in model
    }
    weaker = [Guess(sign_rank.NAME, reason=_NO_RECORD), Guess(SOFT_NAME, soft["train"], outside=soft["test"])]
    if max(len(rows) for rows in members) <= len(moment):
        estimate = np.empty(expected.shape)
        for block, rows in enumerate(members):
            estimate[rows] = least_squares.recover(u[rows], sums[:, block], noise)
        columns = _by_attribute(estimate, categories)
        tables = [np.hstack([1 - part, part]) if part.shape[1] == 1 else part for part in columns]
        weaker.append(Guess(least_squares.NAME, tables))
    else:
        weaker.append(Guess(least_squares.NAME, reason="there are fewer outputs than records"))
    bound = matched_filter.gaussian_bounds(releases * cost.rho / UNIT)
    return Recovery(matched_filter.NAME, found["train"], found["test"], bound, weaker)


def attack_responses(folder: Path, opened: list[Disclosure], people: People) -> Recovery:
    """Each person's flipped attribute, weighed against the soft attribute."""
    epsilon = people.settings.privacy.epsilon
    answers, _ = disclosures.load_value(folder, opened[0])  # [A, n]
    share = split_epsilon(epsilon, len(answers))
    soft = _soft_attributes(folder, people)
    inside = [
        matched_filter.posterior(
            np.clip(table, _CERTAIN, 1 - _CERTAIN), matched_filter.response_evidence(answer, table.shape[1], share)
        )
        for table, answer in zip(soft["train"], answers, strict=True)
    ]
    others = [
        Guess(sign_rank.NAME, reason="no gradient is opened"),
        Guess(SOFT_NAME, soft["train"], outside=soft["test"]),
        Guess(least_squares.NAME, reason="no aggregate is opened"),
    ]
    return Recovery(matched_filter.NAME, inside, soft["test"], matched_filter.pure_bounds(epsilon), others)


def _blocks(people: People, positions: Integers, classes: int) -> list[Integers]:
    """Which of the people at `positions` are in each block."""
    labels = people.labels.labels[positions] if people.within_classes else np.zeros(len(positions), dtype=np.int64)
    return [np.flatnonzero(labels == block) for block in range(classes)]


def _by_attribute(columns: Floats, categories: tuple[int, ...]) -> list[Floats]:
    """Columns [n, J] of each attribute: one for two categories, else one for each."""
    ends = np.cumsum([1 if k == 2 else k for k in categories])[:-1]
    return np.split(columns, ends, axis=1)


def _soft_attributes(folder: Path, people: People) -> dict[str, list[Floats]]:
    """The developer's soft attributes of training and test people: per attribute [n, K]. Raises RunError."""
    file = folder / "soft_attributes.npz"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            ids, soft, groups = arrays["ids"], arrays["soft"], arrays["groups"]
    except OSError:
        raise RunError(f"{file}: missing, so the run is not complete; resume it or start it again") from None
    row = {record: number for number, record in enumerate(ids.tolist())}
    ends = np.cumsum(groups)[:-1]
    tables = {}
    for split in ("train", "test"):
        rows = [row[people.labels.ids[position]] for position in people.of_split(split)]
        tables[split] = np.split(soft[rows].astype(np.float64), ends, axis=1)
    return tables
