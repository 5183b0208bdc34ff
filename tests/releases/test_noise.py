"""The noise follows its law. OpenDP draws from the operating system, so every threshold states its false alarms."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from secure_fair.privacy.accountant import Cost, gaussian_cost
from secure_fair.releases import moment
from secure_fair.releases.moment import MomentPlan, noised
from secure_fair.releases.noise import discrete_gaussian

FALSE_ALARM = 1e-7  # of each test of a law below
DRAWS = 20_000


def follows_the_law(draws: NDArray[np.int64], scale: float) -> bool:
    """Chi-square against the discrete Gaussian, in 40 bins of about equal probability (wide scales: its density).

    And of the sum of squares, which tells a wrong scale from few draws: 20 % too much from 2,000 of a wide scale,
    missed less than once in 10^9.
    """
    edges = np.unique(np.round(norm.ppf(np.linspace(0, 1, 41)[1:-1]) * scale)) + 0.5
    if scale < 100:
        support = np.arange(-math.ceil(40 * scale), math.ceil(40 * scale) + 1)
        weights = np.exp(-(support**2) / (2 * scale**2))
        expected, _ = np.histogram(support, [-np.inf, *edges, np.inf], weights=weights / weights.sum())
    else:  # the sum over integers between half-integers equals the integral up to exp(-2 pi^2 scale^2)
        expected = np.diff(norm.cdf(np.concatenate([[-np.inf], edges, [np.inf]]) / scale))
    observed, _ = np.histogram(draws, [-np.inf, *edges, np.inf])
    statistic = ((observed - len(draws) * expected) ** 2 / (len(draws) * expected)).sum()
    alarms = [chi2.sf(statistic, len(expected) - 1) < FALSE_ALARM / 2]
    if scale >= 100:  # where the discrete Gaussian's variance is the scale's square
        squares = float(np.square(draws / scale).sum())
        alarms.append(2 * min(chi2.cdf(squares, len(draws)), chi2.sf(squares, len(draws))) < FALSE_ALARM / 2)
    return not any(alarms)


@pytest.mark.parametrize("scale", [1.3, 4.0, 217_000.5, 2.0**44])
def test_draws_follow_the_discrete_gaussian(scale: float) -> None:
    draws = discrete_gaussian((DRAWS,), scale)
    assert draws.dtype == np.int64
    assert follows_the_law(draws, scale)
    assert not follows_the_law(draws, scale / 2)
    assert not follows_the_law(draws, scale * 1.1)


def test_draws_are_fresh_and_independent() -> None:
    first, second = discrete_gaussian((100, 100), 50.0), discrete_gaussian((100, 100), 50.0)
    for a, b in ((first, second), (first[:-1], first[1:]), (first[:, :-1], first[:, 1:])):
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 5.5 / math.sqrt(a.size)  # false alarm below 1e-7


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 2.0**51])
def test_no_scale_switches_the_noise_off(scale: float) -> None:
    with pytest.raises(ValueError, match="noise scale"):
        discrete_gaussian((3,), scale)


COST = gaussian_cost(2.0, 1e-5)
PLAN = MomentPlan(categories=(2, 3), classes=2, dimension=2000)


def release_follows_the_account() -> bool:
    """What leaves minus what was there, for shares over all of Z_2^64 and next to 2^63, has the account's noise."""
    share = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, PLAN.shape, dtype=np.int64, endpoint=True)
    share[:1000] = 2**63 - 1
    share[1000:1100] = -(2**63)
    difference = (noised(share, PLAN, COST).view(np.uint64) - share.view(np.uint64)).view(np.int64)
    # independent of the code under test: two changed numbers an attribute for K = 3, one for K = 2, ||u||^2 = 1 + 1/16
    sensitivity = math.sqrt(3) * math.sqrt(1 + 1 / 16) * 2**16
    return follows_the_law(difference.ravel(), sensitivity / math.sqrt(2 * COST.rho / 1e12))


def test_the_release_has_the_noise_of_its_account_mod_2_64() -> None:
    assert release_follows_the_account()


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9])
def test_mutants_with_less_noise_are_caught(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    if factor:
        full = MomentPlan.noise_scale
        monkeypatch.setattr(MomentPlan, "noise_scale", lambda plan, cost: factor * full(plan, cost))
    else:
        monkeypatch.setattr(moment, "discrete_gaussian", lambda shape, scale: np.zeros(shape, dtype=np.int64))
    assert not release_follows_the_account()


def test_a_smaller_epsilon_means_a_larger_scale() -> None:
    scales = [PLAN.noise_scale(gaussian_cost(epsilon, 1e-5)) for epsilon in (8.0, 4.0, 2.0, 1.0, 0.25)]
    assert scales == sorted(scales)
    assert PLAN.noise_scale(Cost(COST.rho // 4, None)) == pytest.approx(2 * PLAN.noise_scale(COST), rel=1e-6)


def test_opendp_is_loaded_by_the_first_draw_only_and_the_ledger_not_at_all() -> None:
    code = (
        "import sys, secure_fair.releases.moment, secure_fair.releases.ridge, secure_fair.releases.randomized_response;"
        "heavy = ('torch', 'opendp', 'crypten', 'secure_fair.privacy.ledger');"
        "print([name for name in heavy if name in sys.modules]);"
        "from secure_fair.releases.noise import discrete_gaussian; discrete_gaussian((1,), 2.0);"
        "print([name for name in ('opendp', 'sklearn', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["[]", "['opendp']"]
