"""Fairness objectives in plaintext: the truth that the secure protocols are tested against.

Pure functions of tensors, written for float64 as well as float32. Notation (docs/protocols.md, section 1): `h` [n, d]
representations, `u` [n, d] the same with rows of norm at most 1, `onehot` [n, K] attributes, `labels` [n] task classes.
A block is the whole batch for the criterion "parity" (`labels=None`) and one task class for "odds".

ORTH: L = sum over blocks c of (|| Uc^T T ||_F^2 - ||Tc||_F^2 ||Uc||_F^2 / (n_c - 1)) / n_c^2, Uc and Tc centred within
the block. The first part is the paper's penalty: zero exactly when no linear function of the representation differs in
mean between groups. The second is what it would be on average if the block's attributes were dealt to its records at
random. Without it a batch of 64 shows a difference where none is, and a large weight shrinks the representation's
spread, the task's with it, instead of the bias.

ADV: an adversary z = [x, bias] w with logistic loss (one column for two groups, one-vs-rest for more), trained by SGD
with weight decay and no momentum; the representation gets the reversed gradient. x is u, or u beside units of a fixed
random hidden layer. The bias is one coordinate for "parity", and one for each task class for "odds": the adversary is
then told the class (Zhang et al. 2018), so that hiding the attribute from it does not mean hiding the task.

ENT: the same adversary; the representation raises the entropy of its prediction, which needs w and no attribute.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

LAYER_NORM_EPS = 1e-6
HIDDEN_BANDWIDTH = 3.0  # of the random hidden layer: u has norm 1


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


def hidden_units(u: Tensor, units: int, seed: int) -> Tensor:
    """[u, cos(u R + b)] with rows of norm at most 1: [n, d] -> [n, d + units]; u itself without units.

    A random layer (Rahimi and Recht 2007) that both parties draw from a public seed: an adversary that is linear in it
    is not linear in u, while only its last layer is learned, and has to be secret.
    """
    if not units:
        return u
    spread, phase = _hidden_layer(u.shape[1], units, seed)
    waves = torch.cos(u @ spread.to(u) + phase.to(u)) / math.sqrt(units)
    return torch.cat([u, waves], dim=1) / math.sqrt(2)


@functools.cache
def _hidden_layer(width: int, units: int, seed: int) -> tuple[Tensor, Tensor]:
    """R [width, units] and b [units]: the same in every step of a run."""
    generator = torch.Generator().manual_seed(seed)
    spread = HIDDEN_BANDWIDTH * torch.randn(width, units, generator=generator, dtype=torch.float64)
    return spread, 2 * math.pi * torch.rand(units, generator=generator, dtype=torch.float64)


def with_bias(x: Tensor, labels: Tensor | None = None, classes: int = 1) -> Tensor:
    """[x, 1], or [x, one-hot class] with labels: [n, d] -> [n, d + classes], rows of norm at most sqrt(2).

    The bias as a coordinate bounds the adversary.
    """
    if labels is None:
        return torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    return torch.cat([x, functional.one_hot(labels.long(), classes).to(x)], dim=1)


def adversary_targets(onehot: Tensor) -> Tensor:
    """The adversary's targets [n, J]: J = 1 (the second group) for two groups, J = K one-vs-rest for more."""
    return onehot[:, 1:] if onehot.shape[1] == 2 else onehot


def adversary_start(width: int, columns: int, seed: int, biases: int = 1) -> Tensor:
    """First weights [width + biases, columns], N(0, 0.01^2) in float64, from a public seed; the secure twin's too."""
    generator = torch.Generator().manual_seed(seed)
    return 0.01 * torch.randn(width + biases, columns, generator=generator, dtype=torch.float64)


def adversary_logits(x1: Tensor, w: Tensor) -> Tensor:
    """z = x1 w: [n, D] x [D, J] -> [n, J]."""
    return x1 @ w


def adversary_gradients(x1: Tensor, w: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the summed logistic loss: (p - t) w^T [n, D] for x1 and x1^T (p - t) [D, J] for w."""
    residual = torch.sigmoid(adversary_logits(x1, w)) - targets.to(x1)  # [n, J]
    return residual @ w.T, x1.T @ residual


def entropy_slope(z: Tensor) -> Tensor:
    """Minus the derivative of the entropy of a Bernoulli with logit z: z p (1 - p), odd in z, at most 0.224."""
    p = torch.sigmoid(z)
    return z * p * (1 - p)


def entropy_gradient(x1: Tensor, w: Tensor) -> Tensor:
    """Gradient of minus the summed entropy of the adversary's predictions with respect to x1, [n, D]."""
    return entropy_slope(adversary_logits(x1, w)) @ w.T


def adversary_reversed(sums: Tensor) -> tuple[Tensor, Tensor]:
    """(value, gradient) for x given `sums` [n, d], (p - t) w^T without the bias coordinates: needs no attribute.

    The gradient [n, d] is with respect to x, reversed and in mean scale, so that minimising lowers the adversary's
    success. The gradient does not tell the loss: the value is the mean row norm of `sums`.
    """
    return sums.norm(dim=1).mean(), -sums / len(sums)


def entropy_descent(sums: Tensor) -> tuple[Tensor, Tensor]:
    """As `adversary_reversed`, for ENT: minimising raises the entropy."""
    return sums.norm(dim=1).mean(), sums / len(sums)


def adversary_update(w: Tensor, sums: Tensor, n: int, learning_rate: float, weight_decay: float) -> Tensor:
    """One SGD step on w [D, J] from x1^T (p - t) in sum scale.

    With learning_rate * weight_decay <= 1 every column keeps ||w|| <= sqrt(2) / weight_decay, hence
    |z| <= 2 / weight_decay: the range that the secure sigmoid relies on.
    """
    return (1 - learning_rate * weight_decay) * w - learning_rate * sums / n
