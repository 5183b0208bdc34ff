"""Calibration and score distributions by group, from counts by label and bin, against the records themselves."""

from __future__ import annotations

import numpy as np
from scipy import stats

from secure_fair.audit.layout import Layout
from secure_fair.audit.predictions import edges
from secure_fair.audit.result import Opened, score_result

BINS, N = 10, 4000


def test_calibration_and_distributions_are_those_of_the_records() -> None:
    generator = np.random.default_rng(1)
    groups = generator.integers(0, 3, N)
    bins = np.minimum(generator.beta(2, 2 + groups), 0.999) * BINS
    other = bins.astype(np.uint8)
    labels = (generator.random(N) < bins / BINS * (1 - 0.2 * groups)).astype(np.uint8)
    layout = Layout(2, bins=BINS)
    rows = layout.rows(labels, other)
    counts = np.array([rows[groups == g].sum(axis=0) for g in range(3)], dtype=np.float64)
    visible = np.ones(counts.shape, dtype=bool)
    opened = Opened(counts, visible, rows.sum(axis=0, dtype=np.float64), 0.0)
    found = score_result(opened, layout, ["a", "b", "c"], edges(0.5, BINS))

    distances = [stats.ks_2samp(other[groups == i], other[groups == j]).statistic for i in range(3) for j in range(i)]
    assert np.isclose(found["score_distribution_difference"], max(distances))
    errors = []
    for g, name in enumerate("abc"):
        own = found["by_group"][name]
        members = groups == g
        for b in range(BINS):
            inside = members & (other == b)
            assert np.isclose(own["share_of_records"][b], inside.sum() / members.sum())
            if inside.any():
                assert np.isclose(own["share_of_positives"][b], labels[inside].mean())
            else:
                assert np.isnan(own["share_of_positives"][b])
        gaps = [
            (members & (other == b)).sum()
            / members.sum()
            * abs(labels[members & (other == b)].mean() - (b + 0.5) / BINS)
            for b in range(BINS)
            if (members & (other == b)).any()
        ]
        errors.append(sum(gaps))
        assert np.isclose(own["calibration_error"], errors[-1])
    assert np.isclose(found["calibration_error_difference"], max(errors) - min(errors))

    visible[1, 3] = False  # of a hidden count nothing follows for its bin, nor for the group's distribution
    hidden = score_result(opened, layout, ["a", "b", "c"], edges(0.5, BINS))
    assert np.isnan(hidden["by_group"]["b"]["share_of_positives"][3])
    assert np.isnan(hidden["by_group"]["b"]["calibration_error"])
    assert hidden["by_group"]["a"] == found["by_group"]["a"]
    assert hidden["score_distribution_difference"] <= found["score_distribution_difference"]
