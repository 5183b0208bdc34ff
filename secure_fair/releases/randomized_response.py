"""The `randomized-response` release: each person's attribute once, flipped by chance; no MPC.

k-ary randomized response (Warner 1965; Kairouz, Bonawitz and Ramage 2016): the true category with probability
p = e^eps / (e^eps + K - 1), else one of the others, each with q = 1 / (e^eps + K - 1). That is eps-local DP, without
delta and without any assumption about the developer. A attributes share epsilon equally.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from secure_fair.errors import RefusedError
from secure_fair.privacy.accountant import Budget, pure_cost, split_epsilon

if TYPE_CHECKING:  # the developer imports this module too, and has no business with a ledger
    from secure_fair.privacy.ledger import Ledger

Integers = npt.NDArray[np.int64]


def respond(
    ledger: Ledger,
    budget: Budget,
    request: bytes,
    persons: Sequence[str],
    codes: Mapping[str, Integers],
    categories: Mapping[str, Sequence[str]],
    epsilon: float,
) -> bytes:
    """Auditor: debit, flip and remember; one byte for each record and attribute, attribute varying slowest.

    persons: the person of each record; codes: attribute -> [n] category codes; categories: attribute -> its K
    names in the order of the codes, from the policy: under others a flip would mean something else. A person with
    several records has one flip, of its most frequent category. Asking again, in whatever order or company, returns
    the flip drawn first, though anything but the identical request is debited again.
    Raises BudgetError, and RefusedError for more than 256 categories.
    """
    if max(len(names) for names in categories.values()) > 256:
        raise RefusedError("randomized response sends one byte for a category; use 256 categories or fewer")
    share = split_epsilon(epsilon, len(codes))
    people, record_person = np.unique(np.asarray(persons), return_inverse=True)

    def produce() -> bytes:
        answers = []
        for name, column in codes.items():
            k = len(categories[name])
            counts = np.zeros((len(people), k), dtype=np.int64)
            np.add.at(counts, (record_person, column), 1)
            drawn = flip(counts.argmax(axis=1), k, share)
            question = json.dumps([name, categories[name], share])
            kept = ledger.memoise(question, [str(person) for person in people], [int(value) for value in drawn])
            answers.append(np.array(kept, dtype=np.uint8)[record_person])
        return np.concatenate(answers).tobytes()

    cost = pure_cost([share] * len(codes))
    return ledger.answer("randomized-response", request, (str(person) for person in people), cost, budget, produce)


def flip(codes: Integers, categories: int, epsilon: float) -> Integers:
    """Codes [n] in 0..K-1 after k-ary randomized response, by the operating system's generator."""
    keep, _ = probabilities(categories, epsilon)
    # 64 random bits against a threshold: the odds are off by 2^-53, and the choice of another category by K 2^-64
    threshold = np.uint64(min(int(keep * 2.0**64), 2**64 - 1))
    draws = np.frombuffer(secrets.token_bytes(16 * len(codes)), dtype=np.uint64).reshape(2, -1)
    other = (draws[1] % np.uint64(categories - 1)).astype(np.int64)
    return np.where(draws[0] < threshold, codes, other + (other >= codes))


def probabilities(categories: int, epsilon: float) -> tuple[float, float]:
    """(p, q): of reporting the true category, and each other one."""
    q = math.exp(-epsilon) / (1 + (categories - 1) * math.exp(-epsilon))
    return 1 - (categories - 1) * q, q


def debias(answers: Integers, categories: int, epsilon: float) -> npt.NDArray[np.float64]:
    """Developer: rows [n, K] whose expectation over the flips is the true one-hot row; they leave [0, 1]."""
    p, q = probabilities(categories, epsilon)
    rows: npt.NDArray[np.float64] = ((answers[:, None] == np.arange(categories)) - q) / (p - q)
    return rows


def variance(categories: int, epsilon: float) -> float:
    """Largest variance of one number of `debias`'s rows given the truth: the noise level for the ridge step."""
    p, q = probabilities(categories, epsilon)
    return max(p * (1 - p), q * (1 - q)) / (p - q) ** 2
