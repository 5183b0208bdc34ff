"""Who may import whom: the contracts of pyproject.toml, and what a fresh process really loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("secure_fair", "parties", "benchmarks")
HEAVY = ("torch", "numpy", "crypten", "timm", "pandas", "PIL", "opendp")

# What is run in a fresh process, and what it must not load.
LOADS = {
    "from secure_fair.cli.main import run; run(['--help'])": (*HEAVY, "pydantic", "rich"),
    "from secure_fair.cli.main import run; run(['config', 'show'])": HEAVY,
    "import secure_fair.settings": HEAVY,
    "import secure_fair.transport.frames": (*HEAVY, "secure_fair.mpc"),
    "import secure_fair.cli.simulate, secure_fair.cli.party, secure_fair.cli.audit": HEAVY,
    "import parties.dealer": ("crypten", "timm", "PIL", "secure_fair.data", "secure_fair.model", "secure_fair.privacy"),
    "import parties.auditor": (
        "timm",
        "PIL",
        "opendp",
        "secure_fair.model",
        "secure_fair.training",
        "secure_fair.data.images",
    ),
    "import parties.audit_developer": (
        "timm",
        "opendp",
        "secure_fair.data.attributes",
        "secure_fair.audit.attributes",
        "secure_fair.privacy.policy",
    ),
    "import parties.audit_auditor": ("timm", "PIL", "opendp", "secure_fair.model", "secure_fair.audit.predictions"),
    "import parties.developer": ("opendp", "secure_fair.data.attributes", "secure_fair.privacy.policy"),
    "import parties.sensitive": ("opacus", "opendp"),
    "import secure_fair.data.attributes": ("torch", "crypten", "timm", "PIL", "secure_fair.data.images"),
    "import secure_fair.privacy.ledger": ("torch", "crypten", "timm", "PIL", "secure_fair.data"),
}


def test_the_contracts_are_kept() -> None:
    """In a process of its own: import-linter switches off the loggers of the process it runs in."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("code", LOADS)
def test_a_fresh_process_does_not_load(code: str) -> None:
    script = f"{code}\nimport sys; sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.split()) & set(LOADS[code]) == set()


def test_init_files_hold_a_docstring_only() -> None:
    """So that importing one room does not load another; the root's has the version."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(file.read_text()).body
            if file == ROOT / "secure_fair" / "__init__.py":
                assert isinstance(body[-1], ast.Assign)
                assert ast.unparse(body.pop()).startswith("__version__ = ")
            assert len(body) == 1, file
            assert ast.get_docstring(ast.Module(body, [])), file
