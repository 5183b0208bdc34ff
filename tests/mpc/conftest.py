from __future__ import annotations

from pathlib import Path

import pytest

from tests.mpc.three_threads import Network


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder: Path = tmp_path_factory.mktemp("certificates")
    return Network(folder)
