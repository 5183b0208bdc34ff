"""What is measured at one point: utility, bias, and predictor leakage beside its floor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from secure_fair.data.attributes import AttributeTable
from secure_fair.fairness import metrics
from secure_fair.releases.moment import Floats, Integers
from secure_fair.releases.ridge import SoftAttributes
from secure_fair.training import predictions
from secure_fair.training.predictions import Predictions

Array = npt.NDArray[np.float64]

HELD_OUT = ("val", "test")  # neither is trained on or chosen by; together they halve the noise of a rate
BIAS = "equalized_odds_difference"
UTILITY = "accuracy"
_SHUFFLES = 200
_MARGIN = 1e-9  # of a probability from 0 and 1


def held_out(file: Path) -> Predictions:
    """The held-out splits of a predictions.csv, one after the other."""
    parts = [predictions.read(file, split) for split in HELD_OUT]
    return Predictions(
        tuple(record for part in parts for record in part.ids),
        parts[0].classes,
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def quality(found: Predictions, table: AttributeTable, column: str) -> dict[str, float]:
    """Utility and group metrics, and the equalized-odds difference that chance alone gives at this size."""
    groups = table.codes[column][table.rows(found.ids)]
    values = metrics.evaluate(found.labels, found.scores, groups, table.categories[column])
    del values["by_group"]
    return {**values, "chance_" + BIAS: chance(found.labels, found.scores.argmax(axis=1), groups)}


def chance(labels: Integers, predicted: Integers, groups: Integers, seed: int = 0) -> float:
    """Mean equalized-odds difference of binary predictions with the groups shuffled within each class.

    It is what a classifier without any bias would show, since the largest of two gaps is never negative.
    """
    generator = np.random.default_rng(seed)
    gaps = np.zeros(_SHUFFLES)
    for label in (0, 1):
        flags, members = predicted[labels == label] == 1, groups[labels == label] == 1
        for shuffle in range(_SHUFFLES):
            chosen = generator.permutation(members)
            gaps[shuffle] = max(gaps[shuffle], abs(flags[chosen].mean() - flags[~chosen].mean()))
    return float(gaps.mean())


def leakage(fair: Predictions, unaware: Predictions, table: AttributeTable, column: str) -> dict[str, float]:
    """How well models alone tell the attribute of people outside the data, within task classes.

    prior_auc: the score of the unaware model (ERM), which needs no attribute. floor_auc: the difference of the two
    models' scores, which whoever holds a fair model can compute. An attacker may turn either around.
    """
    groups = table.codes[column][table.rows(fair.ids)]
    before, after = _logit(unaware.scores), _logit(fair.scores)
    prior, floor = (within_classes_auc(fair.labels, score, groups) for score in (before, before - after))
    return {"prior_auc": max(prior, 1 - prior), "floor_auc": max(floor, 1 - floor)}


def predictor_leakage(
    predictor: SoftAttributes,
    u: Mapping[str, Floats],
    labels: Mapping[str, Integers],
    groups: Mapping[str, Integers],
) -> dict[str, float]:
    """AUC within task classes of a binary attribute's predictor on people outside the data, and in it, by split.

    Before it is clipped to [0, 1]: a developer who wants to know more would not clip.
    """

    def auc(*splits: str) -> float:
        score = np.concatenate([_linear(predictor, u[split], labels[split]) for split in splits])
        return within_classes_auc(
            np.concatenate([labels[split] for split in splits]),
            score,
            np.concatenate([groups[split] for split in splits]),
        )

    return {"predictor_auc": auc(*HELD_OUT), "predictor_auc_in_data": auc("train")}


def within_classes_auc(labels: Integers, scores: Array, groups: Integers) -> float:
    """Mean over the task classes, in which both groups occur, of the AUC of `scores` for group 1 against group 0."""
    parts = [labels == label for label in np.unique(labels)]
    aucs = [roc_auc_score(groups[part], scores[part]) for part in parts if len(np.unique(groups[part])) == 2]
    return float(np.mean(aucs)) if aucs else float("nan")


def _linear(predictor: SoftAttributes, u: Floats, labels: Integers) -> Array:
    blocks = labels if len(predictor.means) > 1 else np.zeros_like(labels)
    scores: Array = np.einsum("nd,nd->n", u[:, :-1], predictor.betas[blocks, :, 0])
    return scores


def _logit(scores: Array) -> Array:
    """Of class 1."""
    p = np.clip(scores[:, 1], _MARGIN, 1 - _MARGIN)
    return np.log(p / (1 - p))
