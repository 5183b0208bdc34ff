"""The frontier's releases are those of the parties: the same integers with the noise held equal, and with none."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.frontier import releases
from parties.moments import moment_plan
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.protocols.moment import MomentShape, auditor_moment, developer_moment
from secure_fair.privacy.accountant import Budget, gaussian_cost
from secure_fair.privacy.ledger import Ledger
from secure_fair.releases import moment as moment_release
from secure_fair.releases.moment import Floats, Integers, attribute_columns, noised, quantise
from secure_fair.releases.noise import discrete_gaussian
from secure_fair.releases.randomized_response import debias, respond
from secure_fair.sections import FairnessSettings
from secure_fair.settings import Settings
from tests.mpc.three_threads import Network

N, WIDTH, CLASSES, BLOCK = 70, 12, 3, 32


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return Network(tmp_path_factory.mktemp("certificates"))


def records(categories: int) -> tuple[Floats, Integers, Integers]:
    """u [N, WIDTH + 1], labels [N], one-hot attributes [N, K]."""
    generator = np.random.default_rng(categories)
    u = np.ones((N, WIDTH + 1), dtype=np.float32)
    features = generator.standard_normal((N, WIDTH))
    u[:, :-1] = features / np.linalg.norm(features, axis=1, keepdims=True)
    return (
        u,
        generator.integers(CLASSES, size=N),
        np.eye(categories, dtype=np.int64)[generator.integers(categories, size=N)],
    )


@pytest.mark.parametrize("criterion", ["odds", "parity"])
@pytest.mark.parametrize(("categories", "noisy"), [(2, False), (2, True), (4, True)])
def test_the_moment_is_what_an_mpc_run_opens(
    network: Network, monkeypatch: pytest.MonkeyPatch, criterion: str, categories: int, noisy: bool
) -> None:
    u, labels, onehot = records(categories)
    settings = Settings(fairness=FairnessSettings.model_validate({"criterion": criterion}))
    within = criterion == "odds"
    plan = moment_plan(settings, (categories,), CLASSES, WIDTH, weighted=False, index=0)
    cost = gaussian_cost(2.0, 1e-5)
    drawn = discrete_gaussian(plan.shape, plan.noise_scale(cost))
    monkeypatch.setattr(moment_release, "discrete_gaussian", lambda _shape, _scale: drawn)
    shape = MomentShape(plan.dimension, plan.columns, plan.classes, N, BLOCK)

    def developer(party: Party) -> torch.Tensor:
        parts = [slice(start, start + BLOCK) for start in range(0, N, BLOCK)]
        tasks = torch.nn.functional.one_hot(torch.from_numpy(labels), CLASSES)
        blocks = ((torch.from_numpy(quantise(u[part], plan)), tasks[part] if within else None) for part in parts)
        return developer_moment(party, shape, blocks, lambda _: None)

    def auditor(party: Party) -> None:
        columns = torch.from_numpy(attribute_columns([onehot]))

        def release(share: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(noised(share.numpy(), plan, cost)) if noisy else share

        auditor_moment(party, shape, columns.split(BLOCK), release)

    opened = network.run(shape.plan(), developer, auditor).developer.numpy()
    own = releases.opened_moment(u, labels if within else None, onehot, plan, cost if noisy else None)
    np.testing.assert_array_equal(own, opened)
    if noisy:
        exact = releases.opened_moment(u, labels if within else None, onehot, plan, None)
        np.testing.assert_array_equal(own - exact, drawn)


def test_the_noise_is_drawn_at_the_scale_of_the_account() -> None:
    u, labels, onehot = records(2)
    settings = Settings()
    plan = moment_plan(settings, (2,), CLASSES, WIDTH, weighted=False, index=0)
    cost = gaussian_cost(0.5, 1e-5)
    exact = releases.opened_moment(u, labels, onehot, plan, None)
    noise = np.concatenate([releases.opened_moment(u, labels, onehot, plan, cost) - exact for _ in range(20)])
    # the mean of n squares of a Gaussian is within 1 +- 5 sqrt(2 / n) but for one time in a million
    assert abs((noise / plan.noise_scale(cost)).var() - 1) < 5 * np.sqrt(2 / noise.size)


def test_randomized_response_is_what_the_auditor_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    u, labels, onehot = records(2)
    epsilon = 1.0
    bits = secrets.token_bytes(16 * N)
    monkeypatch.setattr("secure_fair.releases.randomized_response.secrets.token_bytes", lambda size: bits[:size])
    codes = onehot.argmax(axis=1)
    with Ledger(tmp_path / "ledger.sqlite", False) as ledger:
        persons = [f"r{record:03d}" for record in range(N)]
        sent = respond(ledger, Budget(epsilon, 1e-5), b"request", persons, {"Male": codes}, {"Male": "01"}, epsilon)
    seen: list[Integers] = []

    def watched(answers: Integers, categories: int, share: float) -> npt.NDArray[np.float64]:
        seen.append(answers)
        return debias(answers, categories, share)

    monkeypatch.setattr("benchmarks.frontier.releases.debias", watched)
    releases.predictor(Settings(), "randomized-response", epsilon, u, labels, CLASSES, onehot)
    np.testing.assert_array_equal(seen[0], np.frombuffer(sent, dtype=np.uint8))
    assert (seen[0] != codes).any()


def test_without_noise_both_releases_give_one_predictor() -> None:
    u, labels, onehot = records(2)
    first, second = (
        releases.predictor(Settings(), release, float("inf"), u, labels, CLASSES, onehot)
        for release in ("moment", "randomized-response")
    )
    # apart by the rounding of u to 2^-16
    np.testing.assert_allclose(first.predict(u, labels), second.predict(u, labels), atol=1e-3)
