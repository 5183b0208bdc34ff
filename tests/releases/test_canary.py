"""The guarantee itself: an attacker who knows everything but one coin learns no more of it than the account says.

A canary is a person whose attribute is an independent fair coin, drawn afresh with fresh noise for each repetition.
The attacker subtracts all else and applies the matched filter, the best test there is. For rho-zCDP by Gaussian noise
with mu = sqrt(2 rho): advantage <= 2 Phi(mu/2) - 1 and AUC <= Phi(mu/sqrt 2), met with equality when the canary's
vectors are as long as they may be, so the test sees noise that is too small.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from secure_fair.privacy.accountant import UNIT, gaussian_cost
from secure_fair.releases import moment
from secure_fair.releases.moment import Integers, MomentPlan, noised, quantise

REPETITIONS = 20_000
STANDARD_ERRORS = 5.5  # one-sided false alarm of 2e-8 for each of the two comparisons; half the noise is 20 further
COST = gaussian_cost(2.0, 1e-5)


def within_the_bound(categories: int, records: int) -> bool:
    """Play the game `REPETITIONS` times: each class of one release is a canary of its own, with noise of its own."""
    weighted = records > 1
    plan = MomentPlan((categories,), classes=1000, dimension=2, weighted=weighted)
    vectors = np.tile(np.array([[1.0, 0.25]], dtype=np.float32), (records, 1))  # as long as allowed
    persons = ["canary"] * records if weighted else None
    tables = [np.tile(np.eye(categories, dtype=np.int64)[category], (records, 1)) for category in (0, 1)]
    zero, one = (quantise(vectors, plan).T @ moment.attribute_columns([table], persons) for table in tables)  # [D, J]
    shift = (one - zero).ravel().astype(np.float64)

    coins, statistics = [], []
    generator = np.random.default_rng(7)
    for _ in range(REPETITIONS // plan.classes):
        coin = generator.integers(0, 2, plan.classes)
        share = np.where(coin[None, :, None] == 1, one[:, None, :], zero[:, None, :]).reshape(plan.shape)
        seen = noised(share, plan, COST) - np.tile(zero, (1, plan.classes))
        statistics.append(
            shift @ seen.reshape(plan.dimension, plan.classes, -1).transpose(0, 2, 1).reshape(len(shift), -1)
        )
        coins.append(coin)
    truth, score = np.concatenate(coins), np.concatenate(statistics)

    advantage = 2 * ((score > shift @ shift / 2) == truth).mean() - 1
    ones = int(truth.sum())
    ranks = rankdata(score)[truth == 1].sum() - ones * (ones + 1) / 2
    auc = ranks / (ones * (len(truth) - ones))
    mu = math.sqrt(2 * COST.rho / UNIT)
    return bool(
        advantage <= 2 * norm.cdf(mu / 2) - 1 + STANDARD_ERRORS / math.sqrt(len(truth))
        and auc <= norm.cdf(mu / math.sqrt(2)) + STANDARD_ERRORS / math.sqrt(3 * len(truth))
    )


@pytest.mark.parametrize(("categories", "records"), [(2, 1), (3, 1), (2, 20)])
def test_a_canary_is_no_better_known_than_the_account_says(categories: int, records: int) -> None:
    assert within_the_bound(categories, records)


@pytest.mark.parametrize(("categories", "records"), [(2, 1), (3, 1), (2, 20)])
def test_the_canary_sees_noise_halved(monkeypatch: pytest.MonkeyPatch, categories: int, records: int) -> None:
    full = MomentPlan.noise_scale
    monkeypatch.setattr(MomentPlan, "noise_scale", lambda plan, cost: full(plan, cost) / 2)
    assert not within_the_bound(categories, records)


def test_the_canary_sees_a_person_who_counts_with_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: all of a person's records at full weight, which is what an account per record would let through."""
    weighted = moment.attribute_columns

    def unweighted(tables: list[Integers], persons: list[str]) -> Integers:
        columns: Integers = weighted(tables) << moment.WEIGHT_BITS
        return columns

    monkeypatch.setattr(moment, "attribute_columns", unweighted)
    assert not within_the_bound(2, 20)
