"""The secure terms in the place of the plaintext ones: same value, same gradient of h, also after a resume."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from secure_fair.fairness.terms import Context, plain_adversary, plain_entropy, plain_orth
from secure_fair.mpc import terms
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.terms import PublicShape, SecureMethod
from secure_fair.settings import Settings
from tests.mpc.three_threads import Network

PUBLIC = PublicShape(width=24, classes=2, groups=(2, 3))
SIZES = (16, 16, 5)  # the last batch of an epoch is short
RECORDS = 40


def settings(criterion: str, hidden: int) -> Settings:
    adversary = {"learning_rate": 0.5, "weight_decay": 0.05, "hidden": hidden}
    return Settings.model_validate({"fairness": {"criterion": criterion}, "adversary": adversary})


def batches() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(h, labels, positions) of each step."""
    drawn = torch.Generator().manual_seed(3)
    return [
        (
            torch.randn(n, PUBLIC.width, generator=drawn),
            torch.randint(0, PUBLIC.classes, (n,), generator=drawn),
            torch.randperm(RECORDS, generator=drawn)[:n],
        )
        for n in SIZES
    ]


def tables() -> list[torch.Tensor]:
    """One-hot [RECORDS, K] of each attribute."""
    drawn = torch.Generator().manual_seed(4)
    return [torch.eye(k).long()[torch.randint(0, k, (RECORDS,), generator=drawn)] for k in PUBLIC.groups]


def follow(term: Any, steps: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> list[tuple[float, torch.Tensor]]:
    """(value, gradient with respect to h) of each step."""
    results: list[tuple[float, torch.Tensor]] = []
    for h, labels, positions in steps:
        leaf = h.clone().requires_grad_()
        if len(results) % 2 == 0:  # a loop may leave it out
            term.prepare(labels, positions)
        term.begin(leaf, labels, positions)
        value = term.finish()
        value.backward()
        assert leaf.grad is not None
        results.append((float(value.detach()), leaf.grad))
    return results


def secure(network: Network, method: SecureMethod, options: Settings, announced: list[torch.Tensor]) -> list[Any]:
    """All steps in two sessions: the second resumes from the first's state, as a resumed run does."""
    onehot = torch.cat(tables(), dim=1)
    results: list[Any] = []
    states: tuple[Any, Any] = (None, None)

    def announce(positions: torch.Tensor) -> None:
        announced.append(positions)

    def developer(party: Party) -> Any:
        term = method.developer(options, PUBLIC, party, announce)
        if states[0] is not None:
            term.restore(states[0])
        return follow(term, steps), term.state()

    def auditor(party: Party) -> Any:
        program = method.auditor(options, PUBLIC)
        if states[1] is not None:
            program.restore(states[1])
        for _, _, positions in steps:
            program.step(party, onehot[positions])
        return program.state()

    for steps in (batches()[:2], batches()[2:]):
        plan = Plan(tuple((method.program(options, PUBLIC, len(h)), 1) for h, _, _ in steps))
        outcome = network.run(plan, developer, auditor)
        results += outcome.developer[0]
        states = (outcome.developer[1], outcome.auditor)
    return results


@pytest.mark.parametrize("criterion", ["odds", "parity"])
@pytest.mark.parametrize(
    ("method", "plain"),
    [
        (terms.secure_orth(), plain_orth),
        (terms.secure_adversary(), plain_adversary),
        (terms.secure_entropy(), plain_entropy),
    ],
    ids=["orth", "adv", "ent"],
)
@pytest.mark.parametrize("hidden", [0, 8])
def test_secure_term_equals_plaintext(
    network: Network, method: SecureMethod, plain: Any, criterion: str, hidden: int
) -> None:
    options = settings(criterion, hidden)
    announced: list[torch.Tensor] = []
    results = secure(network, method, options, announced)
    true = follow(plain(Context(options, tables(), PUBLIC.width, PUBLIC.classes)), batches())
    # ENT's slope is about 0.002 at the first weights, where the sine's error is 2e-5.
    tolerance = 2e-2 if plain is plain_entropy else 1e-3
    for (value, gradient), (true_value, true_gradient) in zip(results, true, strict=True):
        assert value == pytest.approx(true_value, rel=tolerance)
        assert float((gradient - true_gradient).abs().max()) <= tolerance * float(true_gradient.abs().max())
    assert [positions.tolist() for positions in announced] == [positions.tolist() for _, _, positions in batches()]
