"""Which counts of an audit are shown: none below `min_group`, and none that those shown would give away.

A cell of a table (group x column) that is not shown must not follow from what is: a column's total over all groups is
the developer's own knowledge, and with intersections a group's count is the sum of the counts of its parts. So the
counts shown and the totals are taken as linear functions of the finest cells, and as long as a hidden count is a linear
combination of known ones, the smallest count shown that helps it is hidden too. (Bounds that follow from counts being
at least zero are not looked at: see docs/audit.md, what remains.)

`counts` are noised wherever this decides what is opened: a threshold that is tested on exact counts tells, by refusing,
whether one more person is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from secure_fair.settings import CROSS

Shown = NDArray[np.bool_]
MAX_CELLS = 4096  # groups of all attributes together, and finest cells of their intersections
_TOLERANCE = 1e-9


def shown(counts: NDArray[np.float64], tables: Sequence[Sequence[str]], smallest: float) -> Shown:
    """Which of `counts` [sum of K, P] may be shown; `tables`: each attribute's group names, as `design` takes them."""
    return complement(counts >= smallest, counts, design(tables))


def complement(open_: Shown, counts: NDArray[np.float64], groups: NDArray[np.float64]) -> Shown:
    """Hide more of what is shown [R, P], until no hidden count follows from what is left and the totals."""
    result = open_.copy()
    for column in range(result.shape[1]):
        keep = result[:, column]  # a view
        while (exposed := _exposed(keep, groups)) is not None:
            helping = np.flatnonzero(keep & _helps(keep, groups, exposed))
            keep[helping[np.argmin(counts[helping, column])]] = False
    return result


def design(tables: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Each group of each table as a sum of the finest cells: [sum of K, cells] of 0 and 1.

    tables: (attribute or intersection, then the names of its groups), in order, as the policy gives them.
    """
    base: dict[str, list[str]] = {}
    for column, *names in tables:
        for position, attribute in enumerate(column.split(CROSS)):
            base.setdefault(attribute, list(dict.fromkeys(name.split(CROSS)[position] for name in names)))
    finest = np.indices([len(values) for values in base.values()]).reshape(len(base), -1)  # [attributes, cells]
    places = {attribute: place for place, attribute in enumerate(base)}
    rows = []
    for column, *names in tables:
        for name in names:
            parts = zip(column.split(CROSS), name.split(CROSS), strict=True)
            fits = [finest[places[attribute]] == base[attribute].index(value) for attribute, value in parts]
            rows.append(np.logical_and.reduce(fits))
    return np.array(rows, dtype=np.float64)


def _exposed(keep: Shown, groups: NDArray[np.float64]) -> int | None:
    """The first hidden group whose count is a linear combination of those shown and of the total."""
    hidden = np.flatnonzero(~keep)
    if not hidden.size:
        return None
    basis = _basis(np.vstack([groups[keep], np.ones(groups.shape[1])]))
    left = groups[hidden] - groups[hidden] @ basis.T @ basis
    found = np.flatnonzero(np.abs(left).max(axis=1) < _TOLERANCE * groups.shape[1])
    return int(hidden[found[0]]) if found.size else None


def _helps(keep: Shown, groups: NDArray[np.float64], exposed: int) -> Shown:
    """Which groups take part in the shortest combination that exposes one (least sum of weights)."""
    known = np.vstack([groups[keep], np.ones(groups.shape[1])]).T
    found = linprog(np.ones(2 * known.shape[1]), A_eq=np.hstack([known, -known]), b_eq=groups[exposed])
    weights = found.x.reshape(2, -1).sum(axis=0)[:-1]
    out = np.zeros(len(groups), dtype=bool)
    out[np.flatnonzero(keep)[weights > _TOLERANCE]] = True
    return out


def _basis(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal rows that span the same space."""
    _, values, vectors = np.linalg.svd(rows, full_matrices=False)
    basis: NDArray[np.float64] = vectors[values > _TOLERANCE * values[0]]
    return basis
