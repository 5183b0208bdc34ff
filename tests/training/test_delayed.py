"""`training.delayed`: a batch's gradient moves the model one step later, exactly that, and no step waits."""

from __future__ import annotations

import copy
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from secure_fair.data.images import Batch
from secure_fair.errors import RunError, SettingsError
from secure_fair.fairness import methods
from secure_fair.fairness.background import Background
from secure_fair.fairness.terms import Context, PlainTerm, plain_adversary
from secure_fair.model.classifier import build_classifier
from secure_fair.settings import Settings
from secure_fair.training.baseline import run_plaintext
from secure_fair.training.loop import Session
from tests.training.test_baseline import StoppedError, curve, silent

N = 6


@pytest.fixture
def delayed(settings: Settings) -> Settings:
    training = settings.training.model_copy(update={"delayed": True, "checkpoint_steps": 2})
    lora = settings.lora.model_copy(update={"dropout": 0.0})
    return settings.model_copy(update={"training": training, "lora": lora})


def batches(count: int) -> list[Batch]:
    drawn = torch.Generator().manual_seed(1)
    positions = torch.arange(N)
    return [Batch(torch.randn(N, 3, 48, 48, generator=drawn), positions % 2, positions) for _ in range(count)]


def term(settings: Settings, width: int) -> Any:
    return plain_adversary(Context(settings, [torch.eye(2)[torch.arange(N) // 3]], width, 2))


def test_each_gradient_is_that_of_the_parameters_of_its_forward_pass(delayed: Settings, tmp_path: Path) -> None:
    """Beside it the same by hand: a model is copied for each forward pass, and AdamW gets the copy's gradient later."""
    weight = 10.0
    model = build_classifier(delayed, 2).train()
    by_hand = copy.deepcopy(model)
    session = Session(model, term(delayed, model.width), weight, delayed, tmp_path, torch.device("cpu"))
    stream = io.StringIO()
    for batch in batches(4):
        session.advance(batch, 0, stream)
    assert (session.step, session.seen) == (3, 4)
    session.drain(stream)
    session.drain(stream)  # nothing is owed any more
    assert (session.step, session.seen) == (4, 4) == (len(stream.getvalue().splitlines()),) * 2

    options = delayed.training
    parameters = list(by_hand.trainable().values())
    optimiser = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    adversary = term(delayed, by_hand.width)
    late: list[list[torch.Tensor]] = []
    for batch in batches(4):
        copied = copy.deepcopy(by_hand)
        h = copied.represent(batch.images)
        adversary.begin(h, batch.labels, batch.positions)
        loss = functional.cross_entropy(copied.logits(h), batch.labels) + weight * adversary.finish()
        late.append(list(torch.autograd.grad(loss, list(copied.trainable().values()))))
        if len(late) > 1:
            move(optimiser, parameters, late.pop(0))
    move(optimiser, parameters, late.pop())
    for own, other in zip(model.trainable().values(), parameters, strict=True):
        assert torch.equal(own, other)


def move(optimiser: torch.optim.Optimizer, parameters: list[Any], gradients: list[torch.Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_an_interrupted_run_goes_on_exactly(stop: int, delayed: Settings, prepared: Path, tmp_path: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == stop:
            raise StoppedError

    attributes, whole, cut = prepared / "auditor" / "attributes.csv", tmp_path / "whole", tmp_path / "cut"
    run_plaintext(delayed, "adv", attributes, whole, silent)
    with pytest.raises(StoppedError):
        run_plaintext(delayed, "adv", attributes, cut, interrupt)
    run_plaintext(delayed, "adv", attributes, cut, silent, resume=True)
    assert len(curve(whole)) == 6
    assert curve(cut) == curve(whole)
    metrics = [json.loads((run / "summary.json").read_text())["metrics"] for run in (whole, cut)]
    assert metrics[0] == metrics[1]


def test_checkpoints_at_other_steps_make_it_another_run(delayed: Settings, prepared: Path, tmp_path: Path) -> None:
    attributes = prepared / "auditor" / "attributes.csv"
    run = tmp_path / "run"
    run_plaintext(delayed, "orth", attributes, run, silent)
    (run / "summary.json").unlink()
    other = delayed.model_copy(update={"training": delayed.training.model_copy(update={"checkpoint_steps": 3})})
    with pytest.raises(RunError, match="other settings"):
        run_plaintext(other, "orth", attributes, run, silent, resume=True)


def test_a_penalty_on_parameters_is_refused(delayed: Settings) -> None:
    with pytest.raises(SettingsError, match=r"training\.delayed = false"):
        methods.get("orth-adapter").require_settings(delayed)
    methods.get("orth").require_settings(delayed)


class Slow(PlainTerm):
    """Answers when it is told to, or fails."""

    name = "slow"

    def __init__(self, failure: Exception | None = None) -> None:
        self.go, self._failure = threading.Event(), failure

    def begin(self, h: torch.Tensor, _labels: torch.Tensor, _positions: torch.Tensor, /) -> None:
        self._h = h

    def finish(self) -> torch.Tensor:
        assert self.go.wait(30)
        if self._failure is not None:
            raise self._failure
        return self._h.sum()


def test_a_term_in_the_background_answers_behind_other_work() -> None:
    slow, h = Slow(), torch.ones(2, 3, requires_grad=True)
    background = Background(slow)
    background.begin(h, torch.zeros(2), torch.arange(2))  # returns, although the term waits
    slow.go.set()
    background.finish().backward()
    assert torch.equal(h.grad, torch.ones(2, 3))  # type: ignore[arg-type]
    background.close()


def test_its_error_is_raised_where_its_answer_is_asked_for() -> None:
    slow = Slow(RunError("the auditor has gone"))
    background = Background(slow)
    background.begin(torch.ones(1, 1), torch.zeros(1), torch.arange(1))
    slow.go.set()
    with pytest.raises(RunError, match="the auditor has gone"):
        background.finish()
    background.close()
