"""Which counts of an audit are shown: none below `min_group`, and none that those shown would give away.

A cell of a table (group x column) that is not shown must not follow from what is: a column's total over all groups is
the developer's own knowledge, and with intersections a group's count is the sum of the counts of its parts. So the
counts shown and the totals are taken as linear functions of the finest cells, and as long as a hidden count is a linear
combination of known ones, the smallest count shown that helps is hidden too. (Bounds that follow from counts being
at least zero are not looked at: see docs/audit.md, what remains.)

`counts` are noised wherever this decides what is opened: a threshold that is tested on exact counts tells, by refusing,
whether one more person is there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from secure_fair.errors import RefusedError
from secure_fair.sections import CROSS

Shown = NDArray[np.bool_]
Tables = Sequence[
    Sequence[str]
]  # of each attribute or intersection: its name, then its groups', as the policy has them
MAX_CELLS = 4096  # groups of all attributes together, and finest cells of their intersections
_TOLERANCE = 1e-9


def shown(counts: NDArray[np.float64], tables: Tables, smallest: float) -> Shown:
    """Which of `counts` [sum of K, P] may be shown; the rows are the groups of `tables`, in order."""
    return complement(counts >= smallest, counts, tables)


def complement(open_: Shown, counts: NDArray[np.float64], tables: Tables) -> Shown:
    """Hide more of what is shown [sum of K, P], until no hidden count follows from what is left and the totals."""
    result = open_.copy()
    for rows, own in _families(tables):
        groups = design(own)
        for column in range(result.shape[1]):
            keep = result[rows, column]
            while (exposed := _exposed(keep, groups)) is not None:
                helping = np.flatnonzero(keep & _helps(keep, groups, exposed))
                keep[helping[np.argmin(counts[rows[helping], column])]] = False
            result[rows, column] = keep
    return result


def require_size(tables: Tables) -> None:
    """Raise RefusedError for more groups, or finest cells of one family, than can be looked at."""
    groups = sum(len(names) for _, *names in tables)
    cells = max(math.prod(map(len, _base(own).values())) for _, own in _families(tables))
    if max(groups, cells) > MAX_CELLS:
        raise RefusedError(
            f"an audit of {groups} groups, with intersections of {cells} finest cells: at most {MAX_CELLS} of either; "
            "audit fewer attributes at a time"
        )


def design(tables: Tables) -> NDArray[np.float64]:
    """Each group of each table as a sum of the finest cells: [sum of K, cells] of 0 and 1."""
    base = _base(tables)
    finest = np.indices([len(values) for values in base.values()]).reshape(len(base), -1)  # [attributes, cells]
    places = {attribute: place for place, attribute in enumerate(base)}
    rows = []
    for column, *names in tables:
        for name in names:
            parts = zip(column.split(CROSS), name.split(CROSS), strict=True)
            fits = [finest[places[attribute]] == base[attribute].index(value) for attribute, value in parts]
            rows.append(np.logical_and.reduce(fits))
    return np.array(rows, dtype=np.float64)


def _base(tables: Tables) -> dict[str, list[str]]:
    """The attributes that the tables are made of, with their categories."""
    base: dict[str, list[str]] = {}
    for column, *names in tables:
        for position, attribute in enumerate(column.split(CROSS)):
            base.setdefault(attribute, list(dict.fromkeys(name.split(CROSS)[position] for name in names)))
    return base


def _families(tables: Tables) -> list[tuple[NDArray[np.int64], list[tuple[str, ...]]]]:
    """Tables that intersections tie together, with their rows of the counts.

    Counts of other families tell nothing about these but the total: so forty attributes are forty small problems.
    """
    families: list[tuple[set[str], list[int]]] = []
    for number, (column, *_) in enumerate(tables):
        attributes, members = set(column.split(CROSS)), [number]
        for other in [family for family in families if family[0] & attributes]:
            families.remove(other)
            attributes |= other[0]
            members += other[1]
        families.append((attributes, members))
    ends = np.cumsum([len(names) for _, *names in tables])
    out = []
    for _, members in families:
        rows = [np.arange(ends[m] - len(tables[m]) + 1, ends[m]) for m in sorted(members)]
        out.append((np.concatenate(rows), [tuple(tables[m]) for m in sorted(members)]))
    return out


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
