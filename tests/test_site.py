"""The documentation as a site: builds without a warning, and asks no other host for anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = (
    "mkdocs.yml",
    "docs",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "THIRD_PARTY_NOTICES.md",
)


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        str(root / "mkdocs.yml"),
        "-d",
        str(out),
    ]
    own = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=own)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {page.relative_to(tmp_path).as_posix() for page in tmp_path.rglob("*.html")}
    wanted = {f"{page.stem}.html" for page in (ROOT / "docs").glob("*.md")}
    assert wanted | {"index.html", "SECURITY.html"} <= pages
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(?:https?:)?//[^\">]+", page.read_text())
        assert fetched == [], page.name


@pytest.mark.parametrize("broken", ["[there](nowhere.md)", "[there](data.md#no-such-heading)"])
def test_a_broken_link_fails_the_build(tmp_path: Path, broken: str) -> None:
    for name in (*SOURCES, "LICENSE"):
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    with (tmp_path / "docs" / "faq.md").open("a") as stream:
        stream.write(f"\n{broken}\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "faq.md" in done.stderr
