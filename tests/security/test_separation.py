"""A simulated run in which every process tells which files it opened and which modules it had loaded at its end.

Python's own opens are seen, and those of a library's native code are not; `test_three_users.py` has the operating
system forbid both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.parties import commands, world
from tests.parties.commands import PATIENCE
from tests.parties.world import ROLES

pytestmark = pytest.mark.timeout(400)  # four processes start from nothing, maybe on a busy machine
# Loaded by Python at the start of each process; a party tells on itself.
TRACER = """
import atexit, os, sys

role = next((role for role in ("developer", "auditor", "dealer") if role in sys.orig_argv[1:]), None)
if role is not None and "party" in sys.orig_argv:
    told = os.open(os.path.join(os.environ["TRACE"], role), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def hook(event, arguments):
        if event in ("open", "os.listdir", "os.scandir", "sqlite3.connect", "shutil.copyfile") and arguments:
            if isinstance(arguments[0], (str, bytes, os.PathLike)):
                os.write(told, os.path.abspath(os.fsencode(arguments[0])) + b"\\n")

    sys.addaudithook(hook)
    atexit.register(lambda: os.write(told, "".join(f"module {name}\\n" for name in sys.modules).encode()))
"""
MODEL = ("timm", "peft", "transformers", "torchvision", "PIL", "secure_fair.model", "secure_fair.training")
ROOMS = ("data", "fairness.objectives", "fairness.terms", "releases", "privacy")
FORBIDDEN = {
    "dealer": (*MODEL, "crypten", "opendp", *(f"secure_fair.{room}" for room in ROOMS)),
    "auditor": (*MODEL, "secure_fair.data.images"),
    "developer": ("opendp", "secure_fair.data.attributes", "secure_fair.privacy.policy", "secure_fair.privacy.ledger"),
}


@dataclass(frozen=True)
class Trace:
    """What a process opened, and what it had loaded at its end."""

    files: frozenset[Path]
    modules: frozenset[str]

    def within(self, folder: Path) -> set[Path]:
        return {file for file in self.files if file.is_relative_to(folder)}


@pytest.fixture(scope="module")
def run(shared: Path) -> Path:
    """Release `moment` uses the most: ledger, noise and dealer. The parties start from nothing, as for a user."""

    def make(folder: Path) -> None:
        (folder / "tracer").mkdir(parents=True)
        (folder / "trace").mkdir()
        (folder / "tracer" / "sitecustomize.py").write_text(TRACER)
        config = world.write_settings(folder / "settings.toml", world.prepared(shared))
        arguments = ["simulate", "-c", str(config), "--method", "orth", "--release", "moment"]
        commands.done(
            [*arguments, "--out", str(folder / "run")],
            folder / "log.txt",
            {"PYTHONPATH": f"{folder / 'tracer'}:{Path.cwd()}", "TRACE": str(folder / "trace")},
            fresh=True,
            patience=2 * PATIENCE,
        )

    return world.once(shared, "traced", make)


def trace(run: Path, role: str) -> Trace:
    lines = (run / "trace" / role).read_text().splitlines()
    modules = frozenset(line.removeprefix("module ") for line in lines if line.startswith("module "))
    assert "secure_fair.cli.party" in modules  # the process lived to tell
    # The run has been renamed since it was made.
    made = str(run.with_name(f"{run.name}.partial"))
    return Trace(frozenset(Path(line.replace(made, str(run))) for line in lines if line.startswith("/")), modules)


def test_no_party_opens_a_file_of_another(run: Path, data: Path) -> None:
    traces = {role: trace(run, role) for role in ROLES}
    folders = {role: [run / "run" / role, *([data / role] if role != "dealer" else [])] for role in ROLES}
    for role in ROLES:
        assert traces[role].within(folders[role][0])
        for other in ROLES:
            if other != role:
                assert not [file for folder in folders[other] for file in traces[role].within(folder)]
    # The trace sees what there is to see.
    assert data / "auditor" / "attributes.csv" in traces["auditor"].files
    assert run / "run" / "auditor" / "ledger.sqlite" in traces["auditor"].files
    assert data / "developer" / "labels.csv" in traces["developer"].files
    assert len(traces["developer"].within(data / "developer" / "images")) == 200
    assert not traces["dealer"].within(data)


@pytest.mark.parametrize("role", ROLES)
def test_a_process_never_loads_what_is_not_its_business(run: Path, role: str) -> None:
    """Until its end: also what is imported late."""
    loaded = trace(run, role).modules
    assert not [name for name in loaded for forbidden in FORBIDDEN[role] if f"{name}.".startswith(f"{forbidden}.")]
    assert "torch" in loaded
    assert ("timm" in loaded) == (role == "developer")
    assert ("opendp" in loaded) == (role == "auditor")
