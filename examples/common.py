"""What the examples share: records whose label and group go together in training and not in the test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from secure_fair.fairness.metrics import evaluate

GROUPS = ("blue", "green")


@dataclass(frozen=True)
class Data:
    """x [n, 8] features, y [n] labels, groups [n] indices into GROUPS, ids n."""

    x: torch.Tensor
    y: torch.Tensor
    groups: np.ndarray
    ids: list[str]


def draw(n: int, agreement: float, seed: int, prefix: str) -> Data:
    """agreement: share of records in which group and label agree."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    groups = np.where(rng.random(n) < agreement, y, 1 - y)
    x = rng.normal(size=(n, 8))
    x[:, 0] += 1.2 * (2 * y - 1)  # what the task should be learned from
    x[:, 1] += 1.5 * (2 * groups - 1)  # what gives the group away, and is easier to see
    ids = [f"{prefix}{number:05d}" for number in range(n)]
    return Data(torch.tensor(x, dtype=torch.float32), torch.tensor(y), groups, ids)


def describe(name: str, scores: torch.Tensor, test: Data) -> None:
    """Print accuracy and bias of class probabilities [n, 2]. We drew the groups ourselves, so we may look at them."""
    found = evaluate(test.y.numpy(), scores.double().numpy(), test.groups, GROUPS)
    accuracy, bias = found["accuracy"], found["equalized_odds_difference"]
    print(f"{name:16} accuracy {accuracy:.3f}, equalized odds difference {bias:.3f}")
