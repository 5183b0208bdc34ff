"""Fixtures of the parties' tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.parties import commands, faults, world
from tests.parties.audits import Audits
from tests.parties.commands import Command, Start
from tests.parties.visits import Services
from tests.parties.world import Deployment


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> None:
    """Started before the first module, so that it is no module's orphan; it ends with the test process."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's is inherited, and a launcher heeds it
    first = commands.server().Process(target=os.getpid)
    first.start()
    first.join()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.shared_folder(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    return world.prepared(shared)


@pytest.fixture(scope="session")
def few(shared: Path) -> Path:
    return world.prepared(shared, faults.FACES)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts commands; what still runs at the end is killed."""
    started: list[Command] = []

    def one(name: str, arguments: list[str], environment: dict[str, str] | None = None) -> Command:
        started.append(Command.start(arguments, tmp_path / f"{name}.log", environment))
        return started[-1]

    yield one
    for command in started:
        command.kill()


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return Deployment(tmp_path_factory.mktemp("identities"))


@pytest.fixture
def services(start: Start, tmp_path: Path, identities: Deployment) -> Callable[..., Services]:
    def made(*developers: str) -> Services:
        return Services(start, tmp_path, identities, developers)

    return made


@pytest.fixture
def deployment(identities: Deployment) -> Deployment:
    return identities.elsewhere()


@pytest.fixture
def audits(tmp_path: Path, start: Start, deployment: Deployment) -> Callable[..., Audits]:
    return lambda **policy: Audits(tmp_path, start, deployment, policy)
