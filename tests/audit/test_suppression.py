"""No hidden count follows from what is shown and from what the developer knows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_fair.audit.suppression import complement, design, require_size, shown
from secure_fair.errors import RefusedError

SEX = ("Sex", "f", "m")
AGE = ("Age", "young", "middle", "old")
BOTH = ("Sex*Age", *(f"{sex}*{age}" for sex in SEX[1:] for age in AGE[1:]))


def solvable(keep: np.ndarray, groups: np.ndarray) -> list[int]:
    """Hidden groups that the shown ones and the total determine, by ranks: slow and plainly right."""
    known = np.vstack([groups[keep], np.ones(groups.shape[1])])
    rank = np.linalg.matrix_rank(known)
    return [g for g in np.flatnonzero(~keep).tolist() if np.linalg.matrix_rank(np.vstack([known, groups[g]])) == rank]


def test_a_design_sums_the_finest_cells() -> None:
    groups = design([SEX, AGE, BOTH])
    assert groups.shape == (2 + 3 + 6, 6)
    assert np.array_equal(groups[:2].sum(axis=0), np.ones(6))
    assert np.array_equal(groups[5:], np.eye(6))
    assert np.array_equal(groups[0], groups[5] + groups[6] + groups[7])


def test_a_small_cell_takes_another_with_it() -> None:
    counts = np.array([[100.0, 30.0], [50.0, 40.0], [70.0, 3.0]])
    visible = shown(counts, [AGE], 20)
    assert visible[:, 0].all()  # nothing is small in this column
    assert visible[:, 1].tolist() == [False, True, False]  # the smallest of the others goes too


def test_of_two_groups_both_are_hidden() -> None:
    assert not shown(np.array([[100.0], [3.0]]), [SEX], 20).any()


def test_intersections_do_not_give_their_parts_away() -> None:
    """f*old is small; Sex and Age would give it away as a difference."""
    parts = np.array([40.0, 50.0, 4.0, 60.0, 70.0, 80.0])
    groups = design([SEX, AGE, BOTH])
    counts = (groups @ parts)[:, None]
    naive = counts[:, 0] >= 20
    assert solvable(naive, groups) == [7]
    visible = shown(counts, [SEX, AGE, BOTH], 20)[:, 0]
    assert solvable(visible, groups) == []
    assert np.flatnonzero(~visible).tolist() == [5, 7, 8, 10]  # a rectangle: the least that hides one


@given(st.lists(st.integers(0, 60), min_size=6, max_size=6), st.integers(1, 40))
def test_nothing_hidden_can_be_solved_for(parts: list[int], smallest: int) -> None:
    groups = design([SEX, AGE, BOTH])
    counts = (groups @ np.array(parts, dtype=np.float64))[:, None]
    visible = shown(counts, [SEX, AGE, BOTH], smallest)[:, 0]
    assert solvable(visible, groups) == []
    assert not (visible & (counts[:, 0] < smallest)).any()


@pytest.mark.parametrize("hidden", [*itertools.combinations(range(5), 2)])
def test_what_is_safe_is_left_alone(hidden: tuple[int, ...]) -> None:
    """Two hidden groups of one attribute hide each other."""
    keep = np.ones((5, 1), dtype=bool)
    keep[list(hidden)] = False
    assert np.array_equal(complement(keep, np.full((5, 1), 50.0), [("Group", *"abcde")]), keep)


def test_attributes_that_nothing_ties_together_are_apart() -> None:
    """Forty attributes have 2^40 finest cells; each is looked at by itself, and gives what it gives alone."""
    many = [(f"A{i}", "no", "yes") for i in range(40)]
    counts = np.random.default_rng(0).integers(10, 60, (80, 4)).astype(np.float64)
    together = shown(counts, many, 20)
    alone = np.vstack([shown(counts[2 * i : 2 * i + 2], [table], 20) for i, table in enumerate(many)])
    assert np.array_equal(together, alone)
    require_size(many)
    with pytest.raises(RefusedError, match="an audit of 4097 groups"):
        require_size([("A", *map(str, range(4097)))])
    wide = [(f"A{i}*A{i + 1}", *(f"{a}*{b}" for a in "abcdefgh" for b in "abcdefgh")) for i in range(4)]
    with pytest.raises(RefusedError, match="with intersections of 32768 finest cells"):
        require_size(wide)


def test_a_family_keeps_its_rows() -> None:
    """Sex*Age ties Sex and Age together, whatever stands between them."""
    other = ("Other", "no", "yes")
    parts = np.array([40.0, 50.0, 4.0, 60.0, 70.0, 80.0])
    own = (design([SEX, AGE, BOTH]) @ parts)[:, None]
    mixed = np.vstack([own[:2], [[100.0], [184.0]], own[2:]])
    visible = shown(mixed, [SEX, other, AGE, BOTH], 20)[:, 0]
    assert visible[2:4].all()
    assert np.array_equal(np.delete(visible, [2, 3]), shown(own, [SEX, AGE, BOTH], 20)[:, 0])
