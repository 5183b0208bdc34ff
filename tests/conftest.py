"""Settings of every test run: one thread a process, no orphan processes, no skip that nobody has accepted."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

# Two workers share two cores; children inherit it. Set before anything imports torch or matplotlib.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.pop("FORCE_COLOR", None)  # of a CI that wants colours: tests read what a pipe is given

import hypothesis
import psutil
import pytest

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="module", autouse=True)
def no_orphans() -> Iterator[None]:
    """A test that starts a process ends it; what is left at the end of a module is killed and reported."""
    before = set(psutil.Process().children(recursive=True))
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child not in before and _counts(child)]
    _, alive = psutil.wait_procs(left, timeout=5)
    told = [f"{child.pid}: {' '.join(child.cmdline())[:200]}" for child in alive if child.is_running()]
    for child in alive:
        child.kill()
    assert not told, f"processes left running: {told}"


def _counts(child: psutil.Process) -> bool:
    """Python's own resource tracker lives as long as its parent."""
    try:
        return "multiprocessing.resource_tracker" not in " ".join(child.cmdline())
    except psutil.Error:
        return False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips",
        action="store_true",
        help=f"fail when a test is skipped that {ALLOWED_SKIPS.name} does not name",
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under `--strict-skips`, an unlisted skip fails the run; in a parallel run only the controller has a reporter."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not session.config.getoption("--strict-skips"):
        return
    skipped = {report.nodeid: report.longrepr for report in reporter.stats.get("skipped", [])}
    unknown = [nodeid for nodeid in skipped if not any(fnmatch.fnmatch(nodeid, pattern) for pattern in allowed_skips())]
    for nodeid in unknown:
        reporter.write_line(f"skipped, and not named in {ALLOWED_SKIPS}: {nodeid} ({skipped[nodeid]})", red=True)
    if unknown and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def allowed_skips() -> dict[str, str]:
    """pattern -> reason."""
    lines = [line for line in ALLOWED_SKIPS.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {pattern.strip(): reason.strip() for pattern, _, reason in (line.partition("|") for line in lines)}
