"""The plaintext terms against the objectives, and what a step of training sees of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch.nn import functional

from secure_fair.fairness import objectives
from secure_fair.fairness.terms import (
    AdversaryView,
    Context,
    FairnessTerm,
    NoTerm,
    PlainAdversary,
    PlainEntropy,
    PlainOrth,
    plain_adversary,
    plain_orth,
    released_gradient,
)
from secure_fair.settings import Settings

WIDTH = 6


def batch(seed: int, n: int = 12, records: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(n, WIDTH, generator=generator).requires_grad_()
    return h, torch.randint(2, (n,), generator=generator), torch.randperm(records, generator=generator)[:n]


def attributes(groups: int, records: int = 40) -> torch.Tensor:
    return functional.one_hot(torch.randint(groups, (records,), generator=torch.Generator().manual_seed(99)), groups)


def view(classes: int = 0, hidden: int = 0) -> AdversaryView:
    return AdversaryView(WIDTH, classes, hidden, seed=4)


def context(tables: Sequence[torch.Tensor]) -> Context:
    return Context(Settings(), tables, WIDTH, 2)


def step(
    term: FairnessTerm, h: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor
) -> tuple[float, torch.Tensor]:
    term.prepare(labels, positions)
    term.begin(h, labels, positions)
    value = term.finish()
    (gradient,) = torch.autograd.grad(value, h)
    return value.item(), gradient


def test_released_gradient_keeps_value_and_gradient_apart() -> None:
    h = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(3, 2)
    value = released_gradient(h, gradient, torch.tensor(5.0))
    (5 * value).backward()
    assert value.item() == 5.0
    torch.testing.assert_close(h.grad, 5 * gradient.double())


def test_erm_adds_nothing() -> None:
    h, labels, positions = batch(0)
    term = NoTerm()
    term.prepare(labels, positions)
    term.begin(h, labels, positions)
    loss = h.sum() + 3 * term.finish()
    loss.backward()
    assert torch.equal(h.grad, torch.ones_like(h))  # type: ignore[arg-type]


@pytest.mark.parametrize("criterion", ["odds", "parity"])
@pytest.mark.parametrize("groups", [2, 3])
def test_orth_reads_the_rows_of_its_positions(criterion: str, groups: int) -> None:
    table = attributes(groups)
    h, labels, positions = batch(1)
    value, gradient = step(PlainOrth(table, criterion), h, labels, positions)
    expected = objectives.orth_loss(h, table[positions], labels if criterion == "odds" else None)
    assert value == expected.item()
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, h)[0])


@pytest.mark.parametrize("groups", [2, 3])
def test_adversary_step_is_gradient_reversal_with_sgd(groups: int) -> None:
    """Three steps equal torch's own SGD on the logistic loss, with the representation's gradient reversed."""
    table = attributes(groups)
    term = PlainAdversary(objectives.adversary_targets(table), view(), learning_rate=0.5, weight_decay=0.05)
    targets = objectives.adversary_targets(table)
    w = objectives.adversary_start(WIDTH, targets.shape[1], 4).requires_grad_()
    optimiser = torch.optim.SGD([w], lr=0.5, weight_decay=0.05)
    for seed in range(3):
        h, labels, positions = batch(seed)
        _, gradient = step(term, h, labels, positions)
        double = h.detach().double().requires_grad_()
        logits = objectives.adversary_logits(objectives.with_bias(objectives.normalise(double)), w)
        loss = functional.binary_cross_entropy_with_logits(logits, targets[positions].double(), reduction="none")
        optimiser.zero_grad()
        (loss.sum() / len(h)).backward()
        assert double.grad is not None
        torch.testing.assert_close(gradient, -double.grad.float(), rtol=1e-4, atol=1e-7)
        optimiser.step()
        torch.testing.assert_close(term.state()["w"], w.detach(), rtol=1e-5, atol=1e-7)


def test_adversary_goes_on_exactly_from_its_state() -> None:
    table = attributes(2)
    first, second = (
        PlainAdversary(objectives.adversary_targets(table), view(), learning_rate=0.5, weight_decay=0.05)
        for _ in range(2)
    )
    step(first, *batch(0))
    second.restore(first.state())
    value, gradient = step(first, *batch(1))
    again, same = step(second, *batch(1))
    assert value == again
    assert torch.equal(gradient, same)


def test_minimising_the_term_lowers_the_adversarys_success() -> None:
    table = attributes(2)
    term = PlainAdversary(objectives.adversary_targets(table), view(), learning_rate=1.0, weight_decay=0.05)
    h, labels, positions = batch(5)
    for _ in range(20):
        step(term, h, labels, positions)
    w, targets = term.state()["w"], objectives.adversary_targets(table)[positions].double()

    def success(x: torch.Tensor) -> float:
        logits = objectives.adversary_logits(objectives.with_bias(objectives.normalise(x.double())), w)
        return -functional.binary_cross_entropy_with_logits(logits, targets).item()

    _, gradient = step(term, h, labels, positions)
    assert success(h.detach() - 0.1 * gradient) < success(h.detach())


@pytest.mark.parametrize(("classes", "hidden"), [(0, 0), (2, 0), (2, 5)])
def test_the_view_is_bounded_and_differentiable(classes: int, hidden: int) -> None:
    """Row norms of [x, bias] up to sqrt 2, which bounds the adversary; the gradient reaches h through hidden units."""
    seen = view(classes, hidden)
    h, labels, _ = batch(7)
    x = seen.of_batch(h)
    x1 = seen.with_bias(x, labels)
    assert x1.shape == (12, WIDTH + hidden + max(classes, 1))
    assert x1.norm(dim=1).max() <= 2**0.5 * (1 + 1e-6)
    assert torch.equal(x1[:, seen.features :].sum(dim=1), torch.ones(12))
    assert torch.autograd.grad(x[:, -1].sum(), h)[0].abs().max() > 0


def test_hidden_units_see_what_no_linear_adversary_can() -> None:
    """XOR of two signs: chance for a linear adversary, easy with random units."""
    generator = torch.Generator().manual_seed(8)
    signs = torch.randint(2, (400, 2), generator=generator)
    h = torch.randn(400, WIDTH, generator=generator) * 0.2
    h[:, :2] += 2.0 * signs - 1
    targets = (signs[:, :1] + signs[:, 1:]) % 2
    right = {}
    for hidden in (0, 64):
        seen = view(0, hidden)
        term = PlainAdversary(targets, seen, learning_rate=4.0, weight_decay=0.036)
        for _ in range(300):
            term.begin(h, signs[:, 0], torch.arange(400))
        z = objectives.adversary_logits(seen.with_bias(seen.of_batch(h), signs[:, 0]).double(), term.state()["w"])
        right[hidden] = ((z > 0) == (targets > 0)).double().mean().item()
    assert right[0] < 0.65
    assert right[64] > 0.95


def test_entropy_step_equals_autograd_and_leaves_the_adversary_alone() -> None:
    table = attributes(3)
    targets = objectives.adversary_targets(table)
    ent, adv = (kind(targets, view(2), learning_rate=4.0, weight_decay=0.05) for kind in (PlainEntropy, PlainAdversary))
    for seed in range(4):
        h, labels, positions = batch(seed)
        w = ent.state()["w"]
        _, gradient = step(ent, h, labels, positions)
        step(adv, h, labels, positions)
        double = h.detach().double().requires_grad_()
        z = objectives.adversary_logits(view(2).with_bias(objectives.normalise(double), labels), w)
        p = torch.sigmoid(z)
        entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum() / len(h)
        (-entropy).backward()
        assert double.grad is not None
        torch.testing.assert_close(gradient, double.grad.float(), rtol=1e-3, atol=1e-8)
        torch.testing.assert_close(ent.state()["w"], adv.state()["w"], rtol=1e-12, atol=0)


def test_the_penalties_of_several_attributes_add_up() -> None:
    tables = [attributes(2), attributes(3)]
    h, labels, positions = batch(6)
    for make in (plain_orth, plain_adversary):
        _, joined = step(make(context(tables)), h, labels, positions)
        if make is plain_orth:
            apart = [step(make(context([table])), h, labels, positions)[1] for table in tables]
            torch.testing.assert_close(joined, apart[0] + apart[1])
        assert joined.abs().max() > 0
    assert plain_adversary(context(tables)).state()["w"].shape == (WIDTH + 2, 1 + 3)  # a bias for each class
