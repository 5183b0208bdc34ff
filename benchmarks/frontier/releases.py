"""What the developer learns from a release, computed in one process by the parties' own functions.

An MPC run opens the same integers (tests/benchmarks/test_frontier_releases.py), so the frontier needs no process and
no ledger for each of its points. Without noise (epsilon inf) is possible here and nowhere else: no setting, message or
policy of the parties can ask for it.
"""

from __future__ import annotations

import math

import numpy as np

from parties.moments import moment_plan
from secure_fair.privacy.accountant import Cost, gaussian_cost, split_epsilon
from secure_fair.releases import ridge
from secure_fair.releases.moment import Floats, Integers, MomentPlan, attribute_columns, noised, quantise
from secure_fair.releases.randomized_response import debias, flip, variance
from secure_fair.settings import Settings


def opened_moment(
    u: Floats, labels: Integers | None, onehot: Integers, plan: MomentPlan, cost: Cost | None
) -> Integers:
    """M [D, C * J] as the developer receives it, of vectors u [n, D] and one attribute's one-hot table [n, K].

    labels [n]: task classes for "odds", None for "parity". cost None: without noise.
    """
    classes = np.zeros(len(u), dtype=np.int64) if labels is None else labels
    columns = attribute_columns([onehot])  # [n, J]
    blocks = np.eye(plan.classes, dtype=np.int64)[classes]  # [n, C]
    joint = (blocks[:, :, None] * columns[:, None, :]).reshape(len(u), -1)  # [n, C * J]
    exact: Integers = quantise(u, plan).T @ joint
    return exact if cost is None else noised(exact, plan, cost)


def predictor(
    settings: Settings, release: str, epsilon: float, u: Floats, labels: Integers, classes: int, onehot: Integers
) -> ridge.SoftAttributes:
    """The developer's predictor of one attribute after `release` of the n training records, at `epsilon`.

    u [n, D]; labels [n] in 0..classes-1; onehot [n, K], from which only the release is taken.
    """
    within = settings.fairness.criterion == "odds"
    known = labels if within else None
    categories = onehot.shape[1]
    if release == "moment":
        plan = moment_plan(settings, (categories,), classes, u.shape[1] - 1, weighted=False, index=0)
        cost = gaussian_cost(epsilon, settings.privacy.delta) if math.isfinite(epsilon) else None
        moment = opened_moment(u, known, onehot, plan, cost)
        return ridge.from_moment(u, known, moment, plan, 0.0 if cost is None else plan.noise_scale(cost))
    share = split_epsilon(epsilon, 1) if math.isfinite(epsilon) else epsilon
    codes = onehot.argmax(axis=1)
    answers = flip(codes, categories, share) if math.isfinite(epsilon) else codes
    rows, spread = debias(answers, categories, share), variance(categories, share)
    return ridge.from_responses(u, known, classes if within else 1, [rows], [spread])
