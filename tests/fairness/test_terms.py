"""The plaintext terms against the objectives, and what a step of training sees of them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from secure_fair.errors import SettingsError
from secure_fair.fairness import objectives
from secure_fair.fairness.terms import (
    FairnessTerm,
    NoTerm,
    PlainAdversary,
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
    term = PlainAdversary(objectives.adversary_targets(table), WIDTH, learning_rate=0.5, weight_decay=0.05, seed=4)
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
        PlainAdversary(objectives.adversary_targets(table), WIDTH, learning_rate=0.5, weight_decay=0.05, seed=4)
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
    term = PlainAdversary(objectives.adversary_targets(table), WIDTH, learning_rate=1.0, weight_decay=0.05, seed=4)
    h, labels, positions = batch(5)
    for _ in range(20):
        step(term, h, labels, positions)
    w, targets = term.state()["w"], objectives.adversary_targets(table)[positions].double()

    def success(x: torch.Tensor) -> float:
        logits = objectives.adversary_logits(objectives.with_bias(objectives.normalise(x.double())), w)
        return -functional.binary_cross_entropy_with_logits(logits, targets).item()

    _, gradient = step(term, h, labels, positions)
    assert success(h.detach() - 0.1 * gradient) < success(h.detach())


def test_a_step_that_voids_the_bound_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"lower `adversary\.learning_rate`"):
        PlainAdversary(attributes(2)[:, 1:], WIDTH, learning_rate=30.0, weight_decay=0.05, seed=0)


def test_the_penalties_of_several_attributes_add_up() -> None:
    tables = [attributes(2), attributes(3)]
    h, labels, positions = batch(6)
    for make in (plain_orth, plain_adversary):
        _, joined = step(make(Settings(), tables, WIDTH), h, labels, positions)
        if make is plain_orth:
            apart = [step(make(Settings(), [table], WIDTH), h, labels, positions)[1] for table in tables]
            torch.testing.assert_close(joined, apart[0] + apart[1])
        assert joined.abs().max() > 0
    assert plain_adversary(Settings(), tables, WIDTH).state()["w"].shape == (WIDTH + 1, 1 + 3)
