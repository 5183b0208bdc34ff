"""Which settings developer and auditor must agree on: the digest, its error, and what the page says of both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parties.handshake import check_settings
from secure_fair.errors import ProtocolError
from secure_fair.settings import SENSITIVE, Settings, load

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
# key -> a value that is not its default; of the sections that a digest could be about
OTHER = {
    "data.root": "elsewhere",
    "data.image_size": 32,
    "data.workers": 2,
    "attributes.file": "other.csv",
    "attributes.columns": '["Male"]',
    "attributes.alignment": "psi",
    "model.backbone": "vit_small_patch16_224",
    "model.weights": "random",
    "lora.rank": 4,
    "lora.alpha": 4,
    "lora.dropout": 0.5,
    "lora.targets": '["proj"]',
    "training.epochs": 9,
    "training.batch_size": 9,
    "training.micro_batch_size": 9,
    "training.learning_rate": 0.5,
    "training.weight_decay": 0.5,
    "training.seed": 9,
    "training.device": "cpu",
    "training.precision": "fp32",
    "training.threads": 3,
    "training.checkpoint_steps": 9,
    "training.delayed": "true",
    "training.balanced": "true",
    "fairness.weight": 9.0,
    "fairness.criterion": "parity",
    "fairness.factors": "AB",
    "adversary.learning_rate": 0.5,
    "adversary.weight_decay": 0.5,
    "adversary.hidden": 9,
    "privacy.epsilon": 0.5,
    "privacy.delta": 0.01,
    "privacy.refresh": "epoch",
    "privacy.rank": 4,
    "privacy.clip": 2.0,
    "privacy.store_values": "true",
    "sensitive.private": "true",
    "sensitive.clip": 2.0,
}
RELEASES = ("gradient", "moment", "randomized-response", *SENSITIVE)


def documented() -> dict[str, bool]:
    """Key -> whether it is agreed on with the adapter releases only, of those that the page marks."""
    found = re.findall(r"^\| `([a-z_.]+)` \| [^|]* \| \*\*agreed\*\*( with `adapter`)?", PAGE.read_text(), re.MULTILINE)
    return {key: bool(adapter) for key, adapter in found}


def test_every_setting_is_looked_at() -> None:
    sections = ("data", "attributes", "model", "lora", "training", "fairness", "adversary", "privacy", "sensitive")
    assert [*OTHER] == [f"{name}.{key}" for name in sections for key in type(getattr(Settings(), name)).model_fields]


@pytest.mark.parametrize("key", [*OTHER])
def test_the_page_marks_what_the_digest_covers(key: str) -> None:
    page, changed = documented(), load(None, (f"{key}={OTHER[key]}",))
    for release in RELEASES:
        agreed = key in page and (not page[key] or release in SENSITIVE)
        same = changed.shared_digest("orth", release) == Settings().shared_digest("orth", release)
        assert same is not agreed, release


def test_the_error_names_what_to_compare() -> None:
    with pytest.raises(ProtocolError, match="different settings") as caught:
        check_settings("a" * 64, "b" * 64)
    for key in documented():
        assert key in str(caught.value) or f"[{key.partition('.')[0]}]" in str(caught.value), key
