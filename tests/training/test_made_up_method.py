"""A new method is one file and one registry line: here, the groups' distance in one random direction is penalised."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secure_fair.fairness import methods, objectives
from secure_fair.fairness.terms import Context, FairnessTerm, PlainTerm
from secure_fair.settings import Settings
from secure_fair.training.baseline import run_plaintext


class RandomDirection(PlainTerm):
    """(v . (mean of group 1 - mean of group 0))^2."""

    name = "made-up"

    def __init__(self, onehot: torch.Tensor, width: int) -> None:
        self._onehot = onehot
        self._direction = torch.randn(width, generator=torch.Generator().manual_seed(0)) / width**0.5

    def begin(self, h: torch.Tensor, _labels: torch.Tensor, positions: torch.Tensor, /) -> None:
        members = self._onehot[positions].float()
        means = members.T @ objectives.normalise(h) / members.sum(dim=0).clamp(min=1)[:, None]  # [K, d]
        self._loss: torch.Tensor = ((means[1] - means[0]) @ self._direction).square()

    def finish(self) -> torch.Tensor:
        return self._loss


def made_up(context: Context) -> FairnessTerm:
    return RandomDirection(context.attributes[0], context.width)


LINE = methods.Method("made-up", ("gradient",), {"gradient": 50.0}, f"{__name__}:made_up", {})


def test_it_trains(settings: Settings, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "METHODS", {**methods.METHODS, "made-up": LINE})
    attributes, run = prepared / "auditor" / "attributes.csv", tmp_path / "run"
    summary = run_plaintext(settings, "made-up", attributes, run, lambda _done, _total: None)
    assert summary["method"] == "made-up"
    assert set(summary["metrics"]["by_group"]) == {"no", "yes"}
    rows = (run / "developer" / "steps.csv").read_text().splitlines()[1:]
    assert len(rows) == 6
    assert all(float(row.split(",")[3]) > 0 for row in rows)
