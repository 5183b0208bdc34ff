"""One run after another against the same auditor and dealer: memory and descriptors stay flat."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from secure_fair.privacy.ledger import Ledger
from tests.parties.records import record
from tests.parties.visits import Services, short_run

RUNS = 5
WARM_UP = 6  # runs after which allocators and caches have what they keep
GROWTH = 8 << 20  # bytes of resident memory that allocators may come and go by


def kind(number: int, runs: int) -> str:
    """Of a run; gradients come last, since nobody has budget for anything else after one."""
    return ("moment", "randomized-response")[number % 2] if number < runs // 2 else "gradient"


def leaves_early(number: int, runs: int) -> bool:
    return kind(number, runs) == "gradient" and number % 10 == 9


def soak(services: Services, runs: int) -> dict[str, list[tuple[int, int]]]:
    """(resident bytes, descriptors) of each service after each of so many runs."""
    seen: dict[str, list[tuple[int, int]]] = {"auditor": [], "dealer": []}
    for number in range(runs):
        with services.visit() as auditor:
            short_run(auditor, kind(number, runs), stop_after=2 if leaves_early(number, runs) else None)
        services.wait_for(number + 1)
        for role, counts in seen.items():
            process = services.process(role)
            counts.append((process.memory_info().rss, process.num_fds()))
    return seen


def check_soak(services: Services, runs: int) -> dict[str, list[tuple[int, int]]]:
    seen = soak(services, runs)
    early = sum(leaves_early(number, runs) for number in range(runs))
    assert services.count("auditor", "run failed") == early
    assert services.count("auditor", "run ended") == runs - early
    with Ledger(services.ledger, None) as ledger:
        debited = [release.kind for release in ledger.releases()]
    kinds = [kind(number, runs) for number in range(runs)]
    repeated = [number for number, name in enumerate(kinds) if name == "randomized-response"][1:]
    assert debited == [name for number, name in enumerate(kinds) if number not in repeated]  # the same bytes again
    for counts in seen.values():
        memory, descriptors = zip(*counts[min(WARM_UP, runs - 2) :], strict=True)
        assert max(memory) - min(memory) < GROWTH
        assert max(descriptors) - min(descriptors) <= 4  # a closed run's may linger for a moment
        assert descriptors[-1] <= descriptors[0] + 2
    return seen


def test_one_run_after_another(services: Callable[..., Services]) -> None:
    check_soak(services(), RUNS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_runs(services: Callable[..., Services]) -> None:
    began = time.monotonic()
    seen = check_soak(services(), 200)
    after = {role: counts[WARM_UP:] for role, counts in seen.items()}
    result = {
        role: {
            "resident_mebibytes": [round(memory / 2**20, 1) for memory, _ in counts],
            "descriptors": [descriptors for _, descriptors in counts],
        }
        for role, counts in after.items()
    }
    facts = {"runs": 200, "left early": sum(leaves_early(number, 200) for number in range(200))}
    seconds = round(time.monotonic() - began)
    record("soak", "make slow PYTEST_ARGS=tests/parties/test_soak.py", {**facts, "seconds": seconds, **result})
