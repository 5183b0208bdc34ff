"""The analytic gradients against autograd of the definitions, in float64, and the bounds that the secure twins need."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from secure_fair.fairness import objectives

assert_close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)
EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """(h [n, d], onehot [n, K], labels [n] or None) at several scales; classes and groups may be empty or single."""
    n, d = draw(st.sampled_from([1, 2, 7, 33])), draw(st.sampled_from([2, 5, 16]))
    groups, classes = draw(st.sampled_from([2, 3, 5])), draw(st.sampled_from([0, 1, 2, 4]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    h = draw(st.sampled_from([0.1, 1.0, 30.0])) * torch.randn(n, d, generator=generator, dtype=torch.float64)
    onehot = functional.one_hot(torch.randint(groups, (n,), generator=generator), groups)
    return h, onehot, torch.randint(classes, (n,), generator=generator) if classes else None


def oracle(centred: torch.Tensor, onehot: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """ORTH spelled out: for each block, dimension and group, the mean product of the centred feature and membership.

    Less its average over assignments of the block's attributes: the variance of a mean drawn without replacement.
    """
    groups = labels.tolist() if labels is not None else [0] * len(centred)
    total = torch.zeros((), dtype=centred.dtype)
    for block in set(groups):
        rows = [i for i, other in enumerate(groups) if other == block]
        for k in range(onehot.shape[1]):
            mean = torch.stack([centred[i] * float(onehot[i, k]) for i in rows]).mean(dim=0)
            total = total + (mean**2).sum()
            if len(rows) > 1:
                members = [float(onehot[i, k]) for i in rows]
                share = sum(members) / len(members)
                squares = sum((centred[i] ** 2).sum() for i in rows)
                total = total - share * (1 - share) * squares / (len(rows) * (len(rows) - 1))
    return total


@pytest.mark.parametrize("criterion", ["odds", "parity"])
def test_orth_averages_to_zero_over_all_assignments_of_the_attributes(criterion: str) -> None:
    """Exactly, by going through all 5! assignments in each block: a batch without bias gives no penalty."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1]) if criterion == "odds" else None
    centred = objectives.centre(torch.randn(10 if criterion == "odds" else 5, 4, generator=generator).double(), labels)
    codes = torch.tensor([0, 1, 2, 1, 1])
    values = []
    for order in itertools.permutations(range(5)):
        again = codes[list(order)].repeat(len(centred) // 5)
        values.append(objectives.orth_value(centred, functional.one_hot(again), labels))
    assert max(values) > 0.01  # single assignments do have one
    assert_close(torch.stack(values).mean(), torch.zeros((), dtype=torch.float64))


@EXAMPLES
@given(batches())
def test_orth_value_and_gradient_equal_autograd_of_the_definition(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
) -> None:
    h, onehot, labels = batch
    centred = objectives.centre(objectives.normalise(h), labels).requires_grad_()
    expected = oracle(centred, onehot, labels)
    (gradient,) = torch.autograd.grad(expected, centred)
    sums = objectives.orth_gradient_sum_scale(centred.detach(), onehot, labels)
    value, analytic = objectives.orth_from_sums(centred, sums, labels)
    assert_close(objectives.orth_value(centred, onehot, labels), expected)
    assert_close(value, expected)
    assert_close(analytic, gradient)


@EXAMPLES
@given(batches())
def test_orth_gradient_reaches_the_representation_through_centring_and_normalisation(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
) -> None:
    h, onehot, labels = batch
    h.requires_grad_()
    (expected,) = torch.autograd.grad(objectives.orth_loss(h, onehot, labels), h)
    centred = objectives.centre(objectives.normalise(h), labels)
    sums = objectives.orth_gradient_sum_scale(centred.detach(), onehot, labels)
    (through,) = torch.autograd.grad(centred, h, objectives.orth_from_sums(centred, sums, labels)[1])
    scale = max(expected.abs().max().item(), 1e-6)
    torch.testing.assert_close(through, expected, rtol=1e-8, atol=1e-10 * scale)


@EXAMPLES
@given(batches())
def test_orth_gradient_passes_finite_differences(batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]) -> None:
    h, onehot, labels = batch
    assert torch.autograd.gradcheck(lambda x: objectives.orth_loss(x, onehot, labels), (h.requires_grad_(),), atol=1e-6)


@EXAMPLES
@given(batches())
def test_rows_are_bounded_and_blocks_centred(batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]) -> None:
    h, _, labels = batch
    u = objectives.normalise(h)
    assert u.norm(dim=1).max() <= 1
    centred = objectives.centre(u, labels)
    for rows in objectives.blocks(labels, len(h)):
        assert centred[rows].sum(dim=0).abs().max() < 1e-12 * len(rows)


def test_normalised_rows_have_unit_norm_at_the_scale_of_a_vit() -> None:
    u = objectives.normalise(torch.randn(8, 192, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    torch.testing.assert_close(u.norm(dim=1), torch.ones(8, dtype=torch.float64), rtol=0, atol=2e-6)


def test_a_constant_row_has_a_finite_gradient() -> None:
    h = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    objectives.orth_loss(h, torch.eye(3, dtype=torch.int64), None).backward()
    assert h.grad is not None
    assert torch.isfinite(h.grad).all()


def test_orth_is_zero_without_and_positive_with_a_difference_in_group_means() -> None:
    onehot = functional.one_hot(torch.tensor([0, 1, 0, 1]))
    same = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    apart = same[[0, 2, 1, 3]]
    assert objectives.orth_loss(same, onehot, None) < 0  # less than chance would give
    assert objectives.orth_loss(apart, onehot, None) > 0.1


def test_odds_ignores_a_difference_that_the_classes_explain() -> None:
    onehot = functional.one_hot(torch.tensor([0, 0, 1, 1]))
    h = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert objectives.orth_loss(h, onehot, torch.tensor([0, 0, 1, 1])).abs() < 1e-20
    assert objectives.orth_loss(h, onehot, None) > 0.1


def test_one_hot_coding_gives_half_of_the_signed_coding() -> None:
    """Two groups: || Uc^T T ||^2 = || Uc^T s ||^2 / 2 for s = +1/-1, since the columns of Uc^T T are opposite.

    What chance gives is halved alike, and vanishes as 1/n: many copies of the nine records show the limit.
    """
    generator = torch.Generator().manual_seed(1)
    centred = objectives.centre(torch.randn(9, 4, generator=generator, dtype=torch.float64), None)
    onehot = functional.one_hot(torch.randint(2, (9,), generator=generator), 2)
    signed = (2 * onehot[:, 1:] - 1).double()
    expected = (centred.T @ signed / 9).square().sum() / 2
    assert_close(objectives.orth_value(centred, onehot, None), objectives.orth_value(centred, signed, None) / 2)
    copies = 100_000
    many = objectives.orth_value(centred.repeat(copies, 1), onehot.repeat(copies, 1), None)
    torch.testing.assert_close(many, expected, rtol=1e-4, atol=0)


@EXAMPLES
@given(batches(), st.integers(0, 2**31))
def test_adversary_gradients_equal_autograd_of_the_logistic_loss(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None], seed: int
) -> None:
    h, onehot, _ = batch
    targets = objectives.adversary_targets(onehot)
    u = objectives.normalise(h).requires_grad_()
    w = (100 * objectives.adversary_start(h.shape[1], targets.shape[1], seed)).requires_grad_()
    logits = objectives.adversary_logits(objectives.with_bias(u), w)
    loss = functional.binary_cross_entropy_with_logits(logits, targets.double(), reduction="sum")
    for_u, for_w = torch.autograd.grad(loss, (u, w))
    u1 = objectives.with_bias(u.detach())
    row_sums, weight_sums = objectives.adversary_gradients(u1, w.detach(), targets)
    assert_close(row_sums[:, :-1], for_u)
    assert_close(weight_sums, for_w)
    value, reversed_gradient = objectives.adversary_reversed(row_sums[:, :-1])
    assert_close(reversed_gradient, -for_u / len(h))
    assert_close(value, row_sums[:, :-1].norm(dim=1).mean())


def test_two_groups_have_one_column_and_more_have_one_each() -> None:
    assert objectives.adversary_targets(torch.eye(2, dtype=torch.int64)).tolist() == [[0], [1]]
    assert objectives.adversary_targets(torch.eye(3, dtype=torch.int64)).shape == (3, 3)


@pytest.mark.parametrize(("learning_rate", "weight_decay"), [(0.1, 0.05), (2.0, 0.5), (1.0, 1.0), (20.0, 0.05)])
def test_adversary_is_bounded_by_construction(learning_rate: float, weight_decay: float) -> None:
    """The worst input for the bound: the same row always, with a target that the adversary never meets."""
    u1 = objectives.with_bias(objectives.normalise(torch.tensor([[5.0, 1.0, -2.0, 0.0]], dtype=torch.float64)))
    w = objectives.adversary_start(4, 1, seed=0)
    bound = math.sqrt(2) / weight_decay
    time = math.ceil(3 / (learning_rate * weight_decay))
    # a residual p - t of modulus 1, as extreme as a residual can be, first of one sign and then of the other
    for residual in [1.0] * time + [-1.0] * time:
        w = objectives.adversary_update(w, residual * u1.T, 1, learning_rate, weight_decay)
        assert w.norm() <= bound * (1 + 1e-12)
        assert objectives.adversary_logits(u1, w).abs().max() <= 2 / weight_decay * (1 + 1e-12)
    assert w.norm() > 0.7 * bound


def test_adversary_learns_what_is_linearly_there() -> None:
    generator = torch.Generator().manual_seed(3)
    onehot = functional.one_hot(torch.randint(2, (400,), generator=generator), 2)
    h = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    h[:, 0] += 4 * (2 * onehot[:, 1] - 1)
    u1, targets = objectives.with_bias(objectives.normalise(h)), objectives.adversary_targets(onehot)
    w = objectives.adversary_start(6, 1, seed=0)
    for _ in range(200):
        w = objectives.adversary_update(w, objectives.adversary_gradients(u1, w, targets)[1], len(u1), 2.0, 0.05)
    assert ((objectives.adversary_logits(u1, w) > 0) == (targets > 0)).double().mean() > 0.9
