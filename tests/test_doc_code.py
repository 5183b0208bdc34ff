"""Code in the documentation runs: Python blocks, and the commands of blocks that follow `<!-- run -->`."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from secure_fair.cli.main import run

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = re.compile(r"(<!-- not run: .*? -->\n)?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"<!-- run -->\n```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
WITH_PYTHON = [page for page in PAGES if any(not skipped for skipped, _ in PYTHON.findall(page.read_text()))]
WITH_SHELL = [page for page in PAGES if SHELL.search(page.read_text())]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_python_blocks_run_one_after_another(page: Path, tmp_path: Path) -> None:
    code = "\n".join(text for skipped, text in PYTHON.findall(page.read_text()) if not skipped)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", WITH_SHELL, ids=lambda page: page.name)
def test_commands_that_are_to_run_do(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for block in SHELL.findall(page.read_text()) for line in block.splitlines() if line.strip()]
    assert lines
    for line in lines:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "secure-fair"
        assert run(arguments) == 0, f"{line}: {capsys.readouterr().err}"


def test_both_kinds_are_there() -> None:
    assert [page.name for page in WITH_PYTHON] == ["python.md"]
    assert "quickstart.md" in [page.name for page in WITH_SHELL]
