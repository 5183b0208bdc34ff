"""The prior: what the developer could guess of the attribute before the run, with no attribute from anybody.

Three guesses, for people outside the data:

- the task label, where label and attribute are correlated;
- the score of f0, a model trained without attributes (ERM): it holds whatever the images tell about the biased label;
- the first principal component of the frozen features within task classes: the largest visible difference.

Each is a number per person, turned the right way: it assumes that the developer knows, as public knowledge or from a
look at a few images, which end is which group, and nothing else.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from secure_fair.leakage.scoring import Integers, oriented_auc

Floats = npt.NDArray[np.float64]

NAME = "prior"


def guesses(
    truth: Integers, categories: int, labels: Integers, f0: Floats | None, features: Floats
) -> dict[str, float]:
    """AUC of each guess for the attribute codes `truth` [n].

    labels [n]: task classes; f0 [n, C]: scores of the model without attributes, if there is one; features [n, d].
    """
    classes = np.eye(int(labels.max()) + 1)[labels]
    columns = {"task label": classes, "frozen features": largest_difference(features, labels)}
    if f0 is not None:
        columns["score without attributes"] = f0
    return {name: oriented_auc(truth, scores, categories) for name, scores in columns.items()}


def largest_difference(features: Floats, labels: Integers) -> Floats:
    """First principal component [n, 1] of features [n, d] less the mean of each task class."""
    centred = features.copy()
    for label in np.unique(labels):
        centred[labels == label] -= centred[labels == label].mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    component: Floats = centred @ vectors[:, -1:]
    return component
