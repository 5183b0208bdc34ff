"""From a noisy moment to soft attributes: the developer's post-processing, which costs no privacy.

Within a block (a task class for "odds") let X be the centred vectors, G = X^T X, and z the centred moment of one
column of t. If t = X beta + residual, then z = G beta + X^T residual + noise, of covariance
tau^2 G^2 + residual G + noise I under the prior beta ~ N(0, tau^2 I). tau is chosen by marginal likelihood within what
a 0/1 attribute allows, so a moment that is mostly noise gives soft attributes near their mean, with nothing to tune.
First one beta for all blocks, then what each block adds to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secure_fair.privacy.accountant import COUNTER
from secure_fair.releases.moment import Floats, Integers, MomentPlan

Array = npt.NDArray[np.float64]

_EXPLAINED = np.geomspace(1e-2, 3, 49)  # tau^2, as the share of t's variance that X beta explains on average
_OFFSET_VARIANCE = 1 / 12  # prior of a group's share: anything in [0, 1]
_ROWS = 4096  # records at a time, in double precision


@dataclass(frozen=True)
class SoftAttributes:
    """A predictor of the attributes: t_hat = offset_c + (u - mean_c) beta_c, c the record's class.

    It is the same for people in the data and outside; `categories` is K of each attribute.
    """

    categories: tuple[int, ...]
    means: Array  # [C, D-1]
    offsets: Array  # [C, J]
    betas: Array  # [C, D-1, J]

    def predict(self, u: Floats, labels: npt.NDArray[np.int64] | None = None) -> Floats:
        """Soft one-hot rows [n, sum of K] in [0, 1], each attribute's summing to 1; no labels with one block."""
        blocks = np.zeros(len(u), dtype=np.int64) if labels is None else labels
        soft = np.empty((len(u), sum(self.categories)), dtype=np.float32)
        for block in range(len(self.means)):
            for rows in _chunks(np.flatnonzero(blocks == block)):
                columns = self.offsets[block] + (u[rows, :-1] - self.means[block]) @ self.betas[block]  # [n, J]
                soft[rows] = _simplex(columns, self.categories)
        return soft


def from_moment(
    u: Floats,
    labels: npt.NDArray[np.int64] | None,
    moment: Integers,
    plan: MomentPlan,
    scale: float,
    persons: int | None = None,
) -> SoftAttributes:
    """Predictor from the released moment [D, C * J] over the records `u` [n, D] with classes `labels` (None: parity).

    scale: of the noise, in integer steps. persons: how many people the n records show, where the plan is weighted;
    their weights are the auditor's, and are taken to be independent of the vectors.
    """
    weight = 1.0 if persons is None else persons / len(u)
    unit = plan.unit / (plan.clip * weight)
    sums = (
        (moment.astype(np.float64) * unit).reshape(plan.dimension, plan.classes, plan.columns).transpose(1, 0, 2)
    )  # [C, D, J]
    return _fit(u, labels, sums, plan.categories, (scale * unit) ** 2, np.zeros(plan.columns))


def from_responses(
    u: Floats, labels: npt.NDArray[np.int64] | None, classes: int, rows: Sequence[Array], variances: Sequence[float]
) -> SoftAttributes:
    """Predictor from unbiased soft one-hot rows [n, K] of each attribute and their variance given the truth."""
    targets = np.concatenate([table[:, 1:] if table.shape[1] == 2 else table for table in rows], axis=1)  # [n, J]
    categories = tuple(table.shape[1] for table in rows)
    extra = np.repeat(variances, [1 if k == 2 else k for k in categories])
    sums = np.zeros((classes, u.shape[1], targets.shape[1]))
    for block, members in enumerate(_members(len(u), labels, classes)):
        for part in _chunks(members):
            sums[block] += u[part].T.astype(np.float64) @ targets[part]
    return _fit(u, labels, sums, categories, 0.0, extra)


def _fit(
    u: Floats,
    labels: npt.NDArray[np.int64] | None,
    sums: Array,
    categories: tuple[int, ...],
    noise: float,
    extra: Array,
) -> SoftAttributes:
    """sums [C, D, J] = U^T T of each block; noise: the variance of each number; extra: that of t's own noise."""
    classes, dimension, columns = sums.shape
    means = np.zeros((classes, dimension - 1))
    grams = np.zeros((classes, dimension - 1, dimension - 1))
    offsets = np.zeros((classes, columns))
    centred = np.zeros((classes, dimension - 1, columns))
    noises = np.zeros_like(grams)
    sizes = np.zeros(classes)
    prior = np.concatenate([[0.5] if k == 2 else [1 / k] * k for k in categories])
    for block, members in enumerate(_members(len(u), labels, classes)):
        size = sizes[block] = max(len(members), 1)
        for part in _chunks(members):
            means[block] += u[part, :-1].sum(axis=0, dtype=np.float64) / size
        for part in _chunks(members):
            rows = u[part, :-1] - means[block]
            grams[block] += rows.T @ rows
        counts = sums[block, -1] / COUNTER
        trust = _OFFSET_VARIANCE / (_OFFSET_VARIANCE + noise / (COUNTER * size) ** 2)
        offsets[block] = np.clip(prior + trust * (counts / size - prior), 0.0, 1.0)
        centred[block] = sums[block, :-1] - np.outer(means[block], counts)  # these carry noise too
        noises[block] = noise * (np.eye(dimension - 1) + np.outer(means[block], means[block]) / COUNTER**2)
    spread = (offsets * (1 - offsets)).mean(axis=0)  # [J], the variance of t
    shared = _solve(grams.sum(axis=0), centred.sum(axis=0), noises.sum(axis=0), spread, extra, sizes.sum())
    betas = np.repeat(shared[None], classes, axis=0)
    if classes > 1:
        for block in range(classes):
            rest = centred[block] - grams[block] @ shared
            betas[block] += _solve(grams[block], rest, noises[block], spread, extra, sizes[block])
    return SoftAttributes(categories, means, offsets, betas)


def _solve(gram: Array, moment: Array, noise: Array, spread: Array, extra: Array, records: float) -> Array:
    """Posterior mean of beta [D-1, J], a column at a time, in the eigenbasis of the Gram matrix.

    noise: covariance [D-1, D-1] of each column's noise, of which the diagonal in that basis is used.
    """
    values, basis = np.linalg.eigh(gram)
    values = np.maximum(values, 0.0)
    rotated = basis.T @ moment  # [D-1, J]
    own = np.einsum("dj,de,ej->j", basis, noise, basis)
    betas = np.empty_like(moment)
    for column, z in enumerate(rotated.T):
        # the small number keeps a direction without data and without noise finite
        rest = (spread[column] + extra[column]) * values + own + 1e-12
        taus = _EXPLAINED * spread[column] * records / max(values.sum(), 1e-12)
        variance = taus[:, None] * values**2 + rest  # [candidates, D-1]
        likelihood = -0.5 * (np.log(variance) + z**2 / variance).sum(axis=1)
        best = int(likelihood.argmax())
        betas[:, column] = basis @ (taus[best] * values / variance[best] * z)
    return betas


def _simplex(columns: Array, categories: Sequence[int]) -> Array:
    """Columns [n, J] clipped to [0, 1] and, for K > 2, scaled to sum 1; for K = 2 both columns from the one."""
    parts = []
    start = 0
    for k in categories:
        width = 1 if k == 2 else k
        part = np.clip(columns[:, start : start + width], 0.0, 1.0)
        start += width
        if k > 2:
            total = part.sum(axis=1, keepdims=True)
            part = np.divide(part, total, out=np.full_like(part, 1 / k), where=total > 0)
        parts += [part] if k > 2 else [1 - part, part]
    return np.concatenate(parts, axis=1)


def _members(n: int, labels: npt.NDArray[np.int64] | None, classes: int) -> list[npt.NDArray[np.intp]]:
    if labels is None:
        return [np.arange(n)]
    return [np.flatnonzero(labels == block) for block in range(classes)]


def _chunks(rows: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    return [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
