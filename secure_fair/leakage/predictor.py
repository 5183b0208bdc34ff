"""Predictor leakage: how well the developer can now tell the attribute of people who are not in the data.

No cryptography removes it. Within a task class, corr(f0 - f1, s) sd(f0 - f1) sd(s) = cov(f0, s) - cov(f1, s): whoever
holds a fair model f1 and can train an unfair f0 holds the difference, which predicts s. Its AUC is the floor that a
release is judged by.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from secure_fair.leakage.scoring import Integers, oriented_auc

Floats = npt.NDArray[np.float64]

_RIDGE = 1e-3  # per record, in units of a feature's variance


def fitted(
    features: Floats, labels: Integers, codes: Integers, categories: int, new_features: Floats, new_labels: Integers
) -> Floats:
    """Scores [m, K] of new people by ridge regression of recovered codes [n] on features [n, d] and task labels [n]."""
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-12
    classes = int(max(labels.max(), new_labels.max())) + 1

    def design(x: Floats, y: Integers) -> Floats:
        return np.concatenate([(x - mean) / scale, np.eye(classes)[y]], axis=1)

    known = design(features, labels)
    gram = known.T @ known + _RIDGE * len(known) * np.eye(known.shape[1])
    beta = np.linalg.solve(gram, known.T @ np.eye(categories)[codes])
    scores: Floats = design(new_features, new_labels) @ beta
    return scores


def floor_auc(truth: Integers, categories: int, f0: Floats, f1: Floats) -> float:
    """AUC of f0 - f1 for the attribute codes [n], turned the right way; f0, f1 [n, C]: log probabilities."""
    difference = f0 - f1
    return oriented_auc(truth, difference - difference.mean(axis=1, keepdims=True), categories)
