from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from secure_fair.errors import SettingsError
from secure_fair.fairness import methods
from secure_fair.fairness.terms import Context
from secure_fair.settings import Settings, parse


def test_every_method_has_a_plain_factory_and_a_weight_for_each_release() -> None:
    onehot = torch.eye(2, dtype=torch.int64)
    for name, method in methods.METHODS.items():
        if not method.own_images:  # those work on a model, see tests/parties/test_adapter.py
            assert methods.factory(method.plain)(Context(Settings(), [onehot], 4, 2)).name == name
        assert set(method.default_weight) == set(method.releases)
        # Private releases need no secure term: training goes on with what was released.
        assert set(method.secure) == set(method.releases) & {"gradient"}


def test_the_settings_weight_wins_except_for_erm() -> None:
    settings = parse(Settings, {"fairness": {"weight": 3.0}}, "test")
    assert methods.get("orth").weight(settings) == methods.get("orth").weight(settings, "gradient") == 3.0
    assert methods.get("erm").weight(settings) == 0.0
    assert methods.get("adv").weight(Settings()) == methods.METHODS["adv"].default_weight["gradient"]


def test_an_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="erm, orth, adv, ent"):
        methods.get("orht")


def test_reading_the_registry_loads_no_torch() -> None:
    code = "import sys, secure_fair.fairness.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
