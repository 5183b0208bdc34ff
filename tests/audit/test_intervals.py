"""Intervals have their nominal coverage, in simulations with a fixed key.

A true coverage of NOMINAL fails a test below with probability under 1e-4 for a random key (binomial, RUNS runs).
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from secure_fair.audit import metrics
from secure_fair.audit.intervals import Sample, intervals, mover_ratio, newcombe, spread
from secure_fair.audit.metrics import PROPORTIONS
from secure_fair.audit.release import consistent
from secure_fair.fairness.intervals import wilson

RUNS = 1000
NOMINAL, SHORT = 0.95, 0.0276  # four standard deviations of a share of RUNS
# chances of (tp, fp, fn, tn) in each group, and the groups' sizes
WORLDS = {
    "equal groups": ([[0.35, 0.1, 0.15, 0.4]] * 2, [200, 200]),
    "a gap": ([[0.35, 0.1, 0.15, 0.4], [0.2, 0.05, 0.3, 0.45]], [300, 150]),
    "a small group": ([[0.3, 0.1, 0.1, 0.5], [0.4, 0.15, 0.1, 0.35]], [1000, 60]),
    "rare": ([[0.03, 0.02, 0.02, 0.93], [0.06, 0.02, 0.02, 0.9]], [800, 500]),
    "five groups": ([[0.3 + d, 0.1, 0.1, 0.5 - d] for d in (0, 0.02, 0.05, 0.1, 0.12)], [150, 300, 200, 90, 400]),
}
QUICK = [("a gap", 0.0), ("a small group", 3.04)]
SOME = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy_score", "precision_score")
NAMES = [
    f"{rate}_{aggregate}"
    for rate in SOME
    for aggregate in ("difference", "ratio", "difference_to_overall", "ratio_to_overall")
] + ["equalized_odds_difference", "equalized_odds_ratio", "demographic_parity_difference"]


def simulated(
    world: str, scale: float = 0.0
) -> tuple[dict[str, float], list[tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """True values of NAMES given the groups' shares, and drawn (counts by group [4, K], totals [4])."""
    chances, sizes = WORLDS[world]
    generator = np.random.default_rng(11)
    truth = np.array(chances).T * np.array(sizes)  # [4, K]
    expected = metrics.group_metrics(metrics.rates(truth), metrics.rates(truth.sum(axis=1)))
    drawn = []
    for _ in range(RUNS):
        counts = np.array([generator.multinomial(n, p) for n, p in zip(sizes, chances, strict=True)], dtype=np.float64)
        totals = counts.sum(axis=0)
        if scale:
            noisy = counts + np.rint(generator.normal(0, scale, counts.shape))
            counts = np.maximum(consistent(noisy, totals, (len(sizes),)), 0.0)
        drawn.append((counts.T, totals))
    return expected, drawn


def samples(counts: NDArray[np.float64], totals: NDArray[np.float64], scale: float) -> dict[str, Sample]:
    return {rate: Sample.of(counts, totals, rate, scale**2 * np.eye(4)) for rate in SOME}


@pytest.mark.parametrize(
    ("world", "scale"),
    [
        pytest.param(world, scale, marks=[] if (world, scale) in QUICK else pytest.mark.slow)
        for world in WORLDS
        for scale in (0.0, 3.04)
    ],
)
def test_differences_and_ratios_are_covered(world: str, scale: float) -> None:
    """scale 3.04: the noise of epsilon 2 for one attribute."""
    expected, drawn = simulated(world, scale)
    hits = dict.fromkeys(NAMES, 0)
    for counts, totals in drawn:
        found = intervals(samples(counts, totals, scale))
        for name in NAMES:
            low, high = found[name]
            hits[name] += low - 1e-12 <= expected[name] <= high + 1e-12
    short = {name: count / RUNS for name, count in hits.items() if count / RUNS < NOMINAL - SHORT}
    assert not short


@pytest.mark.parametrize("world", ["a gap", "rare"])
def test_rates_are_covered_and_not_by_much_more(world: str) -> None:
    chances, sizes = WORLDS[world]
    _, drawn = simulated(world)
    for rate, (above, below) in PROPORTIONS.items():
        truth = np.array(chances) @ np.array(above) / (np.array(chances) @ np.array(below))
        inside = np.zeros(len(sizes))
        for counts, totals in drawn:
            points = Sample.of(counts, totals, rate, np.zeros((4, 4))).points(0.05)
            inside += [low <= p <= high for p, (_, (low, high)) in zip(truth, points, strict=True)]
        assert (np.abs(inside / RUNS - NOMINAL) < SHORT).all(), (rate, inside / RUNS)


def test_intervals_without_the_noise_would_be_noticed() -> None:
    """Intervals that know nothing of the noise fall short in the small group: the test above can fail."""
    expected, drawn = simulated("a small group", 8.0)
    rate = "true_positive_rate"
    found = [
        sum(
            low <= expected[f"{rate}_difference"] <= high
            for low, high in (spread(Sample.of(*draw, rate, s**2 * np.eye(4)), 0.05)["difference"] for draw in drawn)
        )
        / RUNS
        for s in (8.0, 0.0)
    ]
    assert found[0] >= NOMINAL - SHORT > found[1]


def test_published_examples() -> None:
    """Newcombe 1998, table II, (a) 56/70 against 48/80: method 10 gives 0.0524 to 0.3339."""
    points = []
    for hits, n in ((56, 70), (48, 80)):
        low, high = wilson(np.array([hits / n]), np.array([float(n)]), 0.05)
        points.append((hits / n, (float(low[0]), float(high[0]))))
    assert np.allclose(newcombe(*points), (0.0524, 0.3339), atol=5e-5)
    least, most = mover_ratio(*points)
    inverse = mover_ratio(points[1], points[0])
    assert np.allclose((1 / most, 1 / least), inverse)  # a ratio's interval turned over is that of the inverse
    assert least < (56 / 70) / (48 / 80) < most


def test_what_cannot_be_known_has_no_interval() -> None:
    one = Sample(np.array([3.0, np.nan]), np.array([10.0, np.nan]), np.zeros(2), (5.0, 20.0))
    assert all(np.isnan(ends).all() for ends in spread(one, 0.05).values())
    never = Sample(np.array([0.0, 0.0]), np.array([10.0, 30.0]), np.zeros(2), (0.0, 40.0))
    low, high = spread(never, 0.05)["difference"]
    assert (low, 0.0 < high < 0.35) == (0.0, True)
