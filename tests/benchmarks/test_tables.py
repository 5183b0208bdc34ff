"""Tables of the documentation are those of the committed result files."""

from __future__ import annotations

import pytest

from benchmarks import tables

PAGES = [page for page in (tables.ROOT / "docs").glob("*.md") if tables.BLOCK.search(page.read_text())]


def test_there_are_tables() -> None:
    assert "performance.md" in [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_files(page: object) -> None:
    text = (tables.ROOT / "docs" / str(page)).read_text()
    assert tables.rewritten(text) == text, "run python -m benchmarks.tables on the page"


def test_a_table_is_written_anew() -> None:
    assert tables.markdown(("a", "b"), [("1", "2")]) == "| a | b |\n|---|---:|\n| 1 | 2 |\n"
    name = "benchmarks/results/primitives/primitives.json"
    page = f"before\n<!-- from: {name}, rows -->\nstale\n<!-- end -->\nafter"
    again = tables.rewritten(page)
    assert "stale" not in again
    assert again.startswith("before\n")
    assert again.endswith("<!-- end -->\nafter")
    assert "| orth-parity | 64 | secure-fair |" in again
