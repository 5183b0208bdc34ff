"""What is packaged: dependencies, their licences, the wheel."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTICES = ROOT / "THIRD_PARTY_NOTICES.md"


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    matches = [re.fullmatch(r"([a-z0-9-]+)==([^\s;]+)", line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches, strict=True) if not match]
    return {match[1]: match[2] for match in matches if match}


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    pinned = pins()
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *(text for extra in extras.values() for text in extra)]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)], prereleases=True), text


def licence(name: str) -> str:
    """What an installed package's own metadata says: the expression, else the classifiers, else the free text."""
    metadata = importlib.metadata.metadata(name)
    expression, free = (metadata.get_all(field) or [""] for field in ("License-Expression", "License"))
    classes = [text.split(" :: ") for text in metadata.get_all("Classifier") or [] if text.startswith("License :: ")]
    named = [parts[-1] for parts in classes if not parts[-1].lower().endswith("approved")]
    return expression[0] or ", ".join(named) or free[0].partition("\n")[0] or "not stated"


def test_the_notices_state_the_licence_that_each_package_states() -> None:
    """Refresh the table with what this test prints."""
    _, table = NOTICES.read_text().split("|---|---|\n")
    rows = dict(re.findall(r"(?m)^\| ([a-z0-9-]+) \| (.+) \|$", table))
    pinned = pins()
    installed = {name for name, version in pinned.items() if _version(name) == version}
    wanted = {name: licence(name) if name in installed else rows.get(name, "not installed here") for name in pinned}
    assert rows == wanted, "\n".join(f"| {name} | {text} |" for name, text in wanted.items())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_works_outside_of_the_checkout(tmp_path: Path) -> None:
    """Built, installed into a folder of its own (with this environment's dependencies) and run from elsewhere."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=300, capture_output=True)
    (wheel,) = tmp_path.glob("secure_fair-*.whl")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "secure_fair", "parties", "benchmarks"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    packed = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(packed) == sorted(tracked)

    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, timeout=300, capture_output=True)

    def run(*arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(site)}  # comes before the editable install of the checkout
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    for package in ("secure_fair", "parties", "benchmarks"):
        assert run("-c", f"import {package}; print({package}.__file__)").startswith(str(site))
    program = str(site / "bin" / "secure-fair")
    assert PROJECT["name"] in run(program, "--version")
    run(program, "doctor")
    run(program, "config", "init", "settings.toml")
    assert "settings.toml" in run(program, "config", "show", "-c", "settings.toml")
