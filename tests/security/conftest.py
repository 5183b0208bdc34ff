"""Fixtures of the security tests: those of the parties, and an office that starts auditors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parties.commands import Start
from tests.parties.conftest import data, deployment, fork_server, identities, shared, start
from tests.parties.world import Deployment
from tests.security.asking import Office

__all__ = ["data", "deployment", "fork_server", "identities", "shared", "start"]


@pytest.fixture
def office(start: Start, tmp_path: Path, identities: Deployment) -> Office:
    return Office(start, tmp_path, identities)
