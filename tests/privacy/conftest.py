"""A ledger of this test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_fair.privacy.ledger import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path, by_person=True) as opened:
        yield opened
