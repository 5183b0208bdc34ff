"""Drawings: everything lies inside, nothing covers a badge, ticks are round."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest

from secure_fair.report.charts.bars import Bar, bars
from secure_fair.report.charts.common import BADGE, WIDTH, Key, shortened
from secure_fair.report.charts.dots import Dot, dots
from secure_fair.report.charts.lines import DASHES, MAX_POINTS, lines, thinned
from secure_fair.report.charts.scatter import Point, scatter
from secure_fair.report.scales import Scale, round_values
from secure_fair.report.statistics import Estimate, pareto

KEY = Key("A", "moment", "an arm")


def test_badges_of_equal_arms_do_not_cover_each_other() -> None:
    same = [Point(KEY, Estimate(0.1, None, None, 1), Estimate(0.9, None, None, 1)) for _ in range(12)]
    drawn = scatter(same, pareto([(0.9, 0.1)] * 12), "bias", "utility")
    for one, other in combinations(drawn.marks, 2):
        assert math.hypot(one.badge_x - other.badge_x, one.badge_y - other.badge_y) >= 2 * BADGE
        assert (one.x, one.y) == (other.x, other.y)


def test_a_scatter_puts_better_up_and_to_the_left() -> None:
    worse = Point(KEY, Estimate(0.3, 0.2, 0.4, 3), Estimate(0.8, 0.7, 0.9, 3))
    better = Point(KEY, Estimate(0.1, 0.0, 0.2, 3), Estimate(0.9, 0.85, 0.95, 3))
    first, second = scatter([worse, better], [1], "bias", "utility").marks
    assert second.x < first.x
    assert second.y < first.y
    assert all(0 <= place <= WIDTH for mark in (first, second) for bar in mark.bars for place in bar)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.86, 0.913), (-3.0, 17.0), (0.0, 3e-5), (0.0, 27.9e6)])
def test_ticks_are_inside_and_evenly_spaced(low: float, high: float) -> None:
    values = round_values(low, high, 5)
    assert 2 <= len(values) <= 8
    assert low - 1e-9 <= values[0]
    assert values[-1] <= high * (1 + 1e-9)
    steps = [b - a for a, b in pairwise(values)]
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_a_bent_scale_keeps_order_and_shows_magnitudes() -> None:
    scale = Scale(0.0, 0.01, 200.0, 0.0, knee=1e-4)
    places = [scale(value) for value in (0.0, 1e-5, 1e-4, 1e-3, 1e-2)]
    assert places == sorted(places, reverse=True)
    assert [tick.text for tick in scale.ticks()] == ["0", "0.0001", "0.001", "0.01"]


def test_bars_start_at_zero_and_are_as_long_as_their_values() -> None:
    found = bars([(KEY, [Bar("x", Estimate(v, None, None, 1), "") for v in (0.5, 1.0)])], "rate", high=1.0)
    half, whole = found.groups[0].bars
    assert (whole.end - found.left) == pytest.approx(2 * (half.end - found.left))
    assert whole.end == found.right


def test_a_bar_without_bound_fills_the_range() -> None:
    drawn = [
        (KEY, [Bar("", None, "no bound", 4.0, unbounded=True)]),
        (KEY, [Bar("", Estimate(2.0, None, None, 1), "2")]),
    ]
    found = bars(drawn, "epsilon")
    assert found.groups[0].bars[0].end == found.right
    assert found.groups[1].bars[0].end == pytest.approx((found.left + found.right) / 2)


def test_dots_hold_their_intervals_and_the_zero() -> None:
    found = dots([(KEY, [Dot("after", 0.05, 0.01, 0.09)])], "gain", zero=True)
    ((_, _, (dot,)),) = found.rows
    assert found.zero is not None
    assert dot.low is not None
    assert dot.high is not None
    assert found.left <= found.zero < dot.low < dot.x < dot.high <= found.right


def test_long_curves_are_means_of_neighbours() -> None:
    steps = [float(step) for step in range(1, 10_001)]
    thin, means = thinned(steps, [2 * step for step in steps])
    assert len(thin) <= MAX_POINTS
    assert means == pytest.approx([2 * step for step in thin])
    assert thinned(steps[:5], steps[:5]) == (steps[:5], steps[:5])


def test_the_first_curve_is_the_wide_one() -> None:
    found = lines([(KEY, [1.0, 2.0], [3.0, 4.0]), (KEY, [1.0, 2.0], [3.0, 4.0])], "step", "loss", knee=None)
    assert [line.wide for line in found.lines] == [True, False]
    assert found.lines[0].path == found.lines[1].path


def test_thin_curves_of_one_colour_differ_in_their_dashes() -> None:
    drawn = lines([(KEY, [1.0, 2.0], [3.0, 4.0])] * (1 + len(DASHES)), "step", "loss", knee=None).lines
    assert drawn[0].dash == ""  # the wide one
    assert len({line.dash for line in drawn[1:]}) == len(DASHES) >= 5  # a method has four releases at most, and ERM


def test_long_labels_are_cut() -> None:
    assert shortened("a" * 40) == "a" * 10 + "\u2026"
    assert shortened("yes") == "yes"
