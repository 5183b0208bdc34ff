"""Fixtures of the transport's tests."""

from __future__ import annotations

import pytest

from tests.transport.channels import Pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))
