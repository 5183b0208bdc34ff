"""One door: no other code opens a shared value, and what the door lets out is recorded before it is used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.opening import open_to_developer
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.sharing import from_share
from secure_fair.mpc.kinds import Kind
from tests.mpc.three_threads import Network, tap

ROOT = Path(__file__).parents[2]
OPENING = {"get_plain_text", "reveal", "reveal_batch"}  # CrypTen's own
DOORS = {("secure_fair/mpc/engine/opening.py", door) for door in ("open_to_developer", "open_words", "open_to_auditor")}
# Nothing shared is opened here: attributes that the auditor has flipped by chance, and an adapter that it has trained.
FLIPPED = {("parties/auditor.py", "_serve_randomized_response"), ("parties/private_terms.py", "response_term")}
ADAPTER = {("parties/sensitive.py", "_send"), ("parties/adapters.py", "_received")}


def openings(tree: ast.AST, function: str = "") -> Iterator[str]:
    """The functions in which a value is opened or an OPEN frame is sent or received."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef) else function
        if isinstance(node, ast.Attribute) and (node.attr in OPENING or ast.unparse(node) == "Kind.OPEN"):
            yield inside
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Kind":  # Kind(20) would hide it
            yield inside
        yield from openings(node, inside)


def test_only_the_opening_module_opens() -> None:
    found = {
        (str(file.relative_to(ROOT)), function)
        for package in ("secure_fair", "parties")
        for file in (ROOT / package).rglob("*.py")
        for function in openings(ast.parse(file.read_text()))
    }
    assert found == FLIPPED | ADAPTER | DOORS


@pytest.mark.parametrize(
    "line",
    ["x.get_plain_text()", "x.share.reveal()", "Tensor.reveal_batch([x])", "send(Kind.OPEN, x)", "send(Kind(20), x)"],
)
def test_the_search_finds(line: str) -> None:
    assert list(openings(ast.parse(f"def f(x):\n    return {line}"))) == ["f"]


def test_what_is_opened_is_recorded_and_goes_to_the_developer_alone(network: Network) -> None:
    shares = torch.tensor([5, -(2**63)]), torch.tensor([-3, -(2**63) + 1])

    def developer(party: Party) -> torch.Tensor | None:
        return open_to_developer(party, "a value", from_share(shares[0]), bits=4)

    def auditor(party: Party) -> tuple[torch.Tensor | None, list[tuple[int, bytes]]]:
        frames = tap(party)
        return open_to_developer(party, "a value", from_share(shares[1]), bits=4), frames

    outcome = network.run(Plan(()), developer, auditor)
    assert outcome.developer.tolist() == [2, 1]
    assert outcome.auditor == (None, [])
    ((name, value),) = outcome.disclosed
    assert name == "a value"
    assert torch.equal(value, outcome.developer)


def test_kinds_differ_from_the_transports_own() -> None:
    assert min(Kind) >= 16
    assert len(set(Kind)) == len(Kind.__members__)
