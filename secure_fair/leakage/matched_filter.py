"""The matched filter: how much likelier the release is if a record has an attribute than if it has not.

By Neyman and Pearson no attack on one record does better with what it is given. Two attackers use it: the one of the
guarantee, who knows everything but one coin (a canary), and the developer of a real run, who has a model of the
population for everybody else.

For rho-zCDP by Gaussian noise, mu = sqrt(2 rho), the first one's advantage (2 accuracy - 1 on a fair coin) is at most
2 Phi(mu/2) - 1 and its AUC at most Phi(mu/sqrt 2) (Dong, Roth and Su 2022); for epsilon-DP the advantage is at most
tanh(epsilon/2) and the AUC 1/2 + tanh(epsilon/2)/2, which binary randomized response attains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from secure_fair.releases.randomized_response import probabilities

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NAME = "matched filter"
_ROWS = 4096  # records at a time


@dataclass(frozen=True)
class Bounds:
    """The most that anybody learns of one fair coin.

    The advantage also bounds how much being in the data raises anybody's chance of being guessed right.
    """

    advantage: float
    auc: float


def gaussian_bounds(rho: float) -> Bounds:
    """For releases that cost rho altogether, with Gaussian noise."""
    mu = math.sqrt(2 * rho)
    return Bounds(2 * float(norm.cdf(mu / 2)) - 1, float(norm.cdf(mu / math.sqrt(2))))


def pure_bounds(epsilon: float) -> Bounds:
    """For an epsilon-DP release."""
    return Bounds(math.tanh(epsilon / 2), (1 + math.tanh(epsilon / 2)) / 2)


def canary_scores(seen: Floats, shift: Floats, noise: float) -> Floats:
    """Log likelihood ratio [R] of coin = 1 against 0 in R repetitions.

    seen [R, m]: the release less what it is without the coin; shift [m]: what the coin adds; noise: standard deviation.
    """
    scores: Floats = (seen @ shift - shift @ shift / 2) / noise**2
    return scores


def moment_evidence(
    vectors: Floats, moment: Floats, expected: Floats, noise: float, outsiders: Floats
) -> tuple[Floats, Floats]:
    """Log likelihood ratios [N, J] of t_ij = 1 against 0, given the noisy moment [D, J] of the records of one block.

    vectors u [N, D]; expected [N, J]: a model of the population, strictly between 0 and 1, for the others' attributes,
    which are taken for independent draws; noise: the standard deviation of each number. Second, the same [M, J] for
    `outsiders` [M, D], people who are not in the moment, by an attacker who takes them to be in it: the filter also
    learns about the population, and what it says of outsiders tells that from what members lose.
    """
    evidence = np.empty(expected.shape)
    outside = np.empty((len(outsiders), expected.shape[1]))
    for column in range(expected.shape[1]):
        mean = expected[:, column]
        spread = mean * (1 - mean)  # [N]
        covariance = noise**2 * np.eye(vectors.shape[1])
        for rows in _chunks(len(vectors)):
            covariance += vectors[rows].T @ (spread[rows, None] * vectors[rows])
        surprise = moment[:, column] - vectors.T @ mean
        # whitened[i] = u_i^T covariance^-1
        whitened = np.linalg.solve(covariance, vectors.T).T
        size = np.einsum("nd,nd->n", whitened, vectors)
        # The record's own part leaves mean and covariance (Sherman and Morrison): both were the others' alone.
        evidence[:, column] = (whitened @ surprise + size * (mean - 0.5)) / (1 - spread * size)
        whitened = np.linalg.solve(covariance, outsiders.T).T
        outside[:, column] = whitened @ surprise - np.einsum("nd,nd->n", whitened, outsiders) / 2
    return evidence, outside


def response_evidence(answers: Integers, categories: int, epsilon: float) -> Floats:
    """Log likelihoods [N, K] of each category given the flipped answers [N]."""
    keep, other = probabilities(categories, epsilon)
    evidence: Floats = np.where(answers[:, None] == np.arange(categories), math.log(keep), math.log(other))
    return evidence


def posterior(prior: Floats, evidence: Floats) -> Floats:
    """Probabilities [N, K] from a model's [N, K] and log likelihoods [N, K], or for K = 2 the ratio's [N, 1]."""
    if prior.shape[1] == 2 and evidence.shape[1] == 1:
        evidence = np.concatenate([np.zeros_like(evidence), evidence], axis=1)
    log = np.log(prior) + evidence
    weights = np.exp(log - log.max(axis=1, keepdims=True))
    result: Floats = weights / weights.sum(axis=1, keepdims=True)
    return result


def _chunks(n: int) -> list[slice]:
    return [slice(start, start + _ROWS) for start in range(0, n, _ROWS)]
