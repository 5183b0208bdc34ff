"""The auditor's LoRA under differential privacy: its debit, its refusal, and what each party is told."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from parties.audited import Audited
from parties.journal import JOURNAL, Journal
from secure_fair.data.attributes import read_attributes
from secure_fair.errors import BudgetError
from secure_fair.privacy import policy as policies
from secure_fair.privacy.accountant import UNIT, Cost, rho_of
from secure_fair.privacy.ledger import Ledger
from secure_fair.settings import load
from tests.parties import commands, world
from tests.parties.test_adapter import COLUMNS, made, prepared, summary

PRIVATE = ("--set", "sensitive.private=true")
TRAINING = "training the sensitive adapter on images of our own"
Asked = tuple[str, tuple[str, ...], bool]  # release, settings, whether the policy has the categories in the other order


def own_people(data: Path) -> int:
    rows = (data / "auditor" / "images.csv").read_text().splitlines()[1:]
    return sum(",train," in row for row in rows)


@pytest.mark.parametrize(
    ("method", "release"), [("unl", "adapter"), ("orth", "predictor"), ("orth-adapter", "adapter-gradient")]
)
def test_every_release_of_it_is_bounded_and_says_so(shared: Path, method: str, release: str) -> None:
    more = ("--set", "model.weights=demo", *PRIVATE)
    run = made(shared, "simulate", method, "--release", release, *more, name=f"-{release}-private")
    assert summary(run)["privacy"]["epsilon"] == pytest.approx(2.0, rel=1e-6)
    lines = [json.loads(text) for text in (run / "developer" / "disclosures.jsonl").read_text().splitlines()]
    assert {line["epsilon_spent"] for line in lines} == {2.0}
    said = " ".join((run / "said.txt").read_text().split())
    assert "epsilon 2" in said
    assert "no guarantee" not in said
    with Ledger(run / "auditor" / "ledger.sqlite", None) as ledger:
        (debit,) = ledger.releases()
    assert (debit.kind, debit.persons) == (release, own_people(prepared(shared)))
    assert debit.cost.rho / UNIT == pytest.approx(rho_of(2.0, 1e-5), rel=1e-9)


def test_a_budget_that_is_too_small_is_refused_before_anything_is_trained(shared: Path, tmp_path: Path) -> None:
    config = world.write_settings(tmp_path / "settings.toml", prepared(shared), COLUMNS)
    rules = world.write_policy(tmp_path / "policy.toml", ("adapter",), epsilon=1.9)
    run = tmp_path / "run"
    command = commands.failed(
        [
            *("simulate", "-c", str(config), "--method", "unl", "--release", "adapter", "--policy", str(rules)),
            *("--out", str(run), *PRIVATE),
        ],
        tmp_path / "log",
    )
    people = own_people(prepared(shared))
    assert any(f"{people} of {people} people in the request would exceed" in line for line in command.errors)
    assert not run.exists()


def asked(folder: Path, data: Path, budget: float, releases: list[Asked]) -> tuple[Any, ...]:
    """What an auditor with one ledger trains for one request after another: the numbers, trainings, and the account."""
    from parties.sensitive import trained

    config = world.write_settings(folder / "settings.toml", data, COLUMNS)
    usual = policies.load(world.write_policy(folder / "policy.toml", ("adapter", "predictor"), epsilon=budget))
    turned = usual.model_copy(update={"categories": {name: own[::-1] for name, own in usual.categories.items()}})
    found, failed = [], 0
    with Ledger(folder / "ledger.sqlite", False) as ledger, Journal(folder, "auditor") as log:
        for number, (release, overrides, turn) in enumerate(releases):
            policy = turned if turn else usual
            settings = load(config, ("sensitive.private=true", *overrides))
            assert settings.attributes.file is not None
            table = read_attributes(settings.attributes.file, COLUMNS, policy.categories, None)
            audited = Audited(settings, policy, table, (), ledger, log, "sha256:", folder / "checkpoints")
            run: Any = SimpleNamespace(hello=SimpleNamespace(release=release, nonce=str(number)))
            try:
                found.append({name: value.numpy() for name, value in trained(audited, run).items()})
            except BudgetError:
                failed += 1
        spent = {cost.rho: people for cost, people in ledger.balances()}
        kinds = [release.kind for release in ledger.releases()]
    return found, failed, (folder / JOURNAL).read_text().count(TRAINING), spent, kinds


def test_the_same_request_has_the_same_answer_and_another_is_debited(shared: Path, tmp_path: Path) -> None:
    """The budget is for three trainings. The second release of the first is what is stored; the fifth is refused."""
    requests: list[tuple[str, tuple[str, ...], bool]] = [
        ("adapter", (), False),
        ("predictor", (), False),
        ("adapter", ("training.seed=1",), False),
        ("adapter", (), True),
        ("adapter", ("lora.rank=2",), False),
    ]
    with ProcessPoolExecutor(1, mp_context=commands.server()) as pool:
        found, failed, trainings, spent, kinds = pool.submit(asked, tmp_path, prepared(shared), 3.7, requests).result(
            commands.PATIENCE
        )
    assert (len(found), failed, trainings, kinds) == (4, 1, 3, ["adapter"] * 3)
    first, again, *others = found
    assert all((first[name] == again[name]).all() for name in first)
    assert all(any((first[name] != other[name]).any() for name in first) for other in others)
    one = int(rho_of(2.0, 1e-5) * UNIT)
    assert spent == {3 * one: own_people(prepared(shared))}
    assert Cost(3 * one, None).epsilon(1e-5) <= 3.7 < Cost(4 * one, None).epsilon(1e-5)


def test_a_developer_cannot_switch_it_off(shared: Path) -> None:
    """The digest has it: what the developer's file says is compared, and the auditor goes by its own."""
    for release in ("adapter", "adapter-gradient", "predictor"):
        ours, theirs = load(None, ("sensitive.private=true",)), load(None)
        assert ours.shared_digest("unl", release) != theirs.shared_digest("unl", release)
