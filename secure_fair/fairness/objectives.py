"""Fairness objectives in plaintext: the truth that the secure protocols are tested against.

Pure functions of tensors, written for float64 as well as float32. Notation (docs/protocols.md, section 1): `h` [n, d]
representations, `u` [n, d] the same with rows of norm at most 1, `onehot` [n, K] attributes, `labels` [n] task classes.
A block is the whole batch for the criterion "parity" (`labels=None`) and one task class for "odds".

ORTH: L = sum over blocks c of (|| Uc^T T ||_F^2 - ||Tc||_F^2 ||Uc||_F^2 / (n_c - 1)) / n_c^2, Uc and Tc centred within
the block. The first part is the paper's penalty: zero exactly when no linear function of the representation differs in
mean between groups. The second is what it would be on average if the block's attributes were dealt to its records at
random. Without it a batch of 64 shows a difference where none is, and a large weight shrinks the representation's
spread, the task's with it, instead of the bias.

ADV: a linear adversary z = [u, 1] w with logistic loss (one column for two groups, one-vs-rest for more), trained by
SGD with weight decay and no momentum; the representation gets the reversed gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LAYER_NORM_EPS = 1e-6


def normalise(h: Tensor) -> Tensor:
    """Layer norm of each row without affine part, over sqrt(d): [n, d] -> [n, d], row norms at most (and nearly) 1."""
    return functional.layer_norm(h, h.shape[1:], eps=LAYER_NORM_EPS) / math.sqrt(h.shape[1])


def blocks(labels: Tensor | None, n: int) -> list[Tensor]:
    """Row indices of each block: one block of all n rows without labels, else one block per class that occurs."""
    if labels is None:
        return [torch.arange(n)]
    return [torch.nonzero(labels == label).flatten() for label in labels.unique()]


def centre(u: Tensor, labels: Tensor | None) -> Tensor:
    """Subtract from each row of `u` [n, d] the mean of its block."""
    centred = torch.empty_like(u)
    for rows in blocks(labels, len(u)):
        centred[rows] = u[rows] - u[rows].mean(dim=0)
    return centred


def orth_value(centred: Tensor, onehot: Tensor, labels: Tensor | None) -> Tensor:
    """ORTH as defined, a scalar; rows of `onehot` [n, K] may be soft. Of either sign, zero on average without bias."""
    value = centred.new_zeros(())
    for rows in blocks(labels, len(centred)):
        u, t = centred[rows], onehot[rows].to(centred)
        scatter = (t - t.mean(dim=0)).square().sum()
        chance = scatter * u.square().sum() / max(len(rows) - 1, 1)  # a record alone in its block has u = 0
        value = value + ((u.T @ t).square().sum() - chance) / len(rows) ** 2
    return value


def orth_loss(h: Tensor, onehot: Tensor, labels: Tensor | None) -> Tensor:
    """ORTH of raw representations `h` [n, d]; autograd carries it through centring and normalisation."""
    return orth_value(centre(normalise(h), labels), onehot, labels)


def orth_gradient_sum_scale(centred: Tensor, onehot: Tensor, labels: Tensor | None) -> Tensor:
    """G = T_c (T_c^T U_c) of each block, for U = `centred` [n, d] and 1: [n, d + 1], what the secure protocol opens.

    The last column says how many records of the block are in each record's group (summed over several attributes).
    """
    u1 = with_bias(centred)
    sums = torch.empty_like(u1)
    for rows in blocks(labels, len(u1)):
        attributes = onehot[rows].to(u1)  # [n_c, K]
        sums[rows] = attributes @ (attributes.T @ u1[rows])
    return sums


def orth_from_sums(centred: Tensor, sums: Tensor, labels: Tensor | None, attributes: int = 1) -> tuple[Tensor, Tensor]:
    """(value, gradient) of ORTH given G [n, d + 1] in sum scale, of so many attributes joined: needs no attribute.

    With E_i = G_i - u_i ||Tc||_F^2 / (n_c - 1), value = sum_i <u_i, E_i> / n_c^2, equal to `orth_value`; gradient
    [n, d] = 2 E / n_c^2 is with respect to `centred`: the Jacobians of centring and normalisation are autograd's part.
    """
    u = centred.detach()
    scaled = torch.empty_like(u)
    for rows in blocks(labels, len(u)):
        size = len(rows)
        scatter = attributes * size - sums[rows, -1].sum() / size  # ||Tc||_F^2 of one-hot rows
        scaled[rows] = (sums[rows, :-1] - u[rows] * scatter / max(size - 1, 1)) / size**2
    return (u * scaled).sum(), 2 * scaled


def with_bias(u: Tensor) -> Tensor:
    """[u, 1]: [n, d] -> [n, d + 1]. The bias as a coordinate keeps ||u1|| <= sqrt(2), which bounds the adversary."""
    return torch.cat([u, u.new_ones(len(u), 1)], dim=1)


def adversary_targets(onehot: Tensor) -> Tensor:
    """The adversary's targets [n, J]: J = 1 (the second group) for two groups, J = K one-vs-rest for more."""
    return onehot[:, 1:] if onehot.shape[1] == 2 else onehot


def adversary_start(width: int, columns: int, seed: int) -> Tensor:
    """First weights [width + 1, columns], N(0, 0.01^2) in float64, from a public seed: the secure twin has the same."""
    generator = torch.Generator().manual_seed(seed)
    return 0.01 * torch.randn(width + 1, columns, generator=generator, dtype=torch.float64)


def adversary_logits(u1: Tensor, w: Tensor) -> Tensor:
    """z = u1 w: [n, d + 1] x [d + 1, J] -> [n, J]."""
    return u1 @ w


def adversary_gradients(u1: Tensor, w: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the summed logistic loss: (p - t) w^T [n, d + 1] for u1 and u1^T (p - t) [d + 1, J] for w."""
    residual = torch.sigmoid(adversary_logits(u1, w)) - targets.to(u1)  # [n, J]
    return residual @ w.T, u1.T @ residual


def adversary_reversed(sums: Tensor) -> tuple[Tensor, Tensor]:
    """(value, gradient) for u given `sums` [n, d], (p - t) w^T without the bias coordinate: needs no attribute.

    The gradient [n, d] is with respect to u, reversed and in mean scale, so that minimising lowers the adversary's
    success. The gradient does not tell the loss: the value is the mean row norm of `sums`.
    """
    return sums.norm(dim=1).mean(), -sums / len(sums)


def adversary_update(w: Tensor, sums: Tensor, n: int, learning_rate: float, weight_decay: float) -> Tensor:
    """One SGD step on w [d + 1, J] from u1^T (p - t) in sum scale.

    With learning_rate * weight_decay <= 1 every column keeps ||w|| <= sqrt(2) / weight_decay, hence
    |z| <= 2 / weight_decay: the range that the secure sigmoid relies on.
    """
    return (1 - learning_rate * weight_decay) * w - learning_rate * sums / n
