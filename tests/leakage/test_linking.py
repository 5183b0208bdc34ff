"""Groups grown from certain links, forbidden ones and evidence."""

from __future__ import annotations

import numpy as np

from secure_fair.leakage.linking import Links


def linked(nodes: int) -> Links:
    links = Links()
    for _ in range(nodes):
        links.node()
    return links


def test_certain_links_are_transitive_and_evidence_joins_the_rest() -> None:
    links = linked(6)
    links.same(0, 1)
    links.same(1, 2)
    links.same(3, 4)
    links.alike(5, 4, 0.5)
    links.alike(5, 0, -0.5)
    assert links.groups(2, np.full(6, 1)).tolist() == [0, 0, 0, 1, 1, 1]


def test_evidence_never_joins_what_is_apart() -> None:
    links = linked(4)
    links.apart(0, 1)
    links.apart(2, 3)
    links.alike(0, 1, 100.0)
    links.alike(0, 2, 2.0)
    links.alike(1, 2, 3.0)  # so 1 and 2 belong together, hence 0 and 3, though nothing says so but the other pair
    links.alike(0, 3, 0.1)
    assert links.groups(2, np.array([5, 4, 1, 1])).tolist() == [0, 1, 1, 0]


def test_evidence_of_joined_nodes_adds_up() -> None:
    """One strong hint against two weaker ones that become visible when two nodes are joined."""
    links = linked(4)
    links.same(0, 1)
    links.alike(2, 0, 0.6)
    links.alike(2, 1, 0.6)
    links.alike(2, 3, 1.0)
    links.apart(0, 3)
    found = links.groups(2, np.full(4, 1))
    assert found[2] == found[0] != found[3]


def test_a_node_that_nothing_ties_is_unknown() -> None:
    links = linked(3)
    assert links.groups(2, np.array([3, 2, 1])).tolist() == [0, 1, -1]
