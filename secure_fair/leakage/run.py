"""All attacks on one run, from the developer's disclosure log: the `leakage` block of summary.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from secure_fair.data.attributes import AttributeTable
from secure_fair.errors import RunError
from secure_fair.fairness.finite import finite
from secure_fair.leakage import predictor, prior
from secure_fair.leakage.adapter import attack_adapter, attack_predictor
from secure_fair.leakage.aggregate import attack_moment, attack_responses
from secure_fair.leakage.gradient import attack_gradient
from secure_fair.leakage.material import Floats, Guess, Integers, People, Recovery, reused_by, settings_of
from secure_fair.leakage.row_space import attack_overlap
from secure_fair.leakage.scoring import auc, inside_minus_outside, mean
from secure_fair.privacy import disclosures
from secure_fair.privacy.disclosures import Disclosure
from secure_fair.settings import SENSITIVE, Settings

_SMALLEST = 1e-9  # probability, as far as predictions.csv tells them apart


def attack_run(
    run: Path,
    table: AttributeTable,
    columns: tuple[str, ...],
    reference: Path | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Attack what RUN disclosed to its developer, and score that with `table`.

    columns: the attributes (or intersections) of the run; reference: a run without attributes (ERM) on the same data;
    settings: those of the run, by default from its summary.json. The result is about the first column; `by_attribute`
    has all where there are several; NaN is None. `in_release`: whether the release was made from these people's
    attributes, rather than from those of the auditor's own images. `within_classes` has the AUCs again as means over
    the task classes, where the task label, which a biased data set ties to the attribute, says nothing. Raises RunError
    where there is no log or its values were not stored.
    """
    folder = run / "developer"
    if not (folder / disclosures.LOG_NAME).exists() and (earlier := reused_by(run)):
        raise RunError(f"{run}: this run reused the release of {earlier}; attack that run")
    opened = list(disclosures.read(folder))
    if not opened:
        raise RunError(f"{folder}: nothing has been opened, so there is nothing to attack; let the run finish")
    if opened[0].release == "adapter-gradient":
        return attack_overlap(run, opened, settings or settings_of(run))
    if opened[0].release not in _ATTACKS:
        raise RunError(f"{folder}: no attack knows the release `{opened[0].release}`")
    people = People.of(settings or settings_of(run), table, columns)
    recovery = _ATTACKS[opened[0].release](folder, opened, people)
    f1 = _test_scores(run, people)
    f0 = None if reference is None else _test_scores(reference, people)
    blocks = {column: _block(people, recovery, number, f0, f1) for number, column in enumerate(columns)}
    for block in blocks.values():
        block["attribute_recovery"]["in_release"] = opened[0].release not in SENSITIVE
    found: dict[str, Any] = finite(blocks[columns[0]] | ({"by_attribute": blocks} if len(blocks) > 1 else {}))
    return found


def _block(people: People, recovery: Recovery, number: int, f0: Floats | None, f1: Floats) -> dict[str, Any]:
    """The block of one attribute."""
    train, test = people.of_split("train"), people.of_split("test")
    inside, outside = people.truth[train, number], people.truth[test, number]
    categories = people.categories[number]
    found, guessed = recovery.inside[number], recovery.outside[number]
    labels, features = people.labels.labels[test], people.features("test")

    def priors(rows: Integers) -> dict[str, float]:
        return prior.guesses(outside[rows], categories, labels[rows], None if f0 is None else f0[rows], features[rows])

    def aucs(rows: Integers) -> dict[str, float]:
        """After the run, before it, and of the two models' difference."""
        return {
            "auc": auc(outside[rows], guessed[rows]),
            "prior_auc": max(priors(rows).values()),
            "floor_auc": np.nan if f0 is None else predictor.floor_auc(outside[rows], categories, f0[rows], f1[rows]),
        }

    everybody = np.arange(len(test))
    overall = aucs(everybody)
    classes = [aucs(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return {
        "attribute_recovery": {
            "attack": recovery.attack,
            "accuracy": float((found.argmax(axis=1) == inside).mean()),
            "auc": auc(inside, found),
            "bound": None if recovery.bound is None else recovery.bound.advantage,
        },
        "in_minus_out": _in_minus_out(people, number, found, guessed),
        "predictor": {name: overall[name] for name in ("auc", "prior_auc")},
        "floor_auc": overall["floor_auc"],
        "within_classes": {name: mean([part[name] for part in classes]) for name in overall},
        "attacks": [
            *(_line(guess, people, number) for guess in recovery.others),
            *({"attack": f"{prior.NAME}: {name}", "auc": value} for name, value in priors(everybody).items()),
        ],
    }


def _in_minus_out(people: People, number: int, found: Floats, guessed: Floats) -> dict[str, float]:
    """Accuracy of one attack on people inside, minus outside, from scores, of the same kinds."""
    train, test = people.of_split("train"), people.of_split("test")
    truth = people.truth[:, number]
    kinds = people.labels.labels * people.categories[number] + truth  # task class and attribute
    right, right_outside = found.argmax(axis=1) == truth[train], guessed.argmax(axis=1) == truth[test]
    return asdict(inside_minus_outside(right, kinds[train], right_outside, kinds[test]))


def _line(guess: Guess, people: People, number: int) -> dict[str, Any]:
    """An attack that is not the strongest one, or the reason why it says nothing here."""
    if guess.scores is None:
        return {"attack": guess.attack, "reason": guess.reason}
    scores, truth = guess.scores[number], people.truth[people.of_split("train"), number]
    told = (
        {} if guess.outside is None else {"in_minus_out": _in_minus_out(people, number, scores, guess.outside[number])}
    )
    if guess.scored is not None:
        truth, scores = truth[guess.scored], scores[guess.scored]
    return {
        "attack": guess.attack,
        "accuracy": float((scores.argmax(axis=1) == truth).mean()),
        "auc": auc(truth, scores),
        **told,
    }


_ATTACKS: dict[str, Callable[[Path, list[Disclosure], People], Recovery]] = {
    "gradient": attack_gradient,
    "moment": attack_moment,
    "randomized-response": attack_responses,
    "adapter": attack_adapter,
    "predictor": attack_predictor,
}


def _test_scores(run: Path, people: People) -> Floats:
    """Log probabilities [n, C] of a run's model for the test people. Raises RunError where they are others."""
    from secure_fair.training import predictions

    file = run / "developer" / "predictions.csv"
    found = predictions.read(file, "test")
    if found.ids != tuple(people.labels.ids[position] for position in people.of_split("test")):
        raise RunError(f"{file}: not about the test records of this run; name a run on the same data")
    return np.log(np.maximum(found.scores, _SMALLEST))
