"""Every measured number in the documentation is that of a committed result file, which says its command and commit."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.measured import DECIMAL, ROOT, Block, agrees, blocks, expanded, load, main, numbers, provenance, value

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCKS = [block for page in PAGES for block in blocks(page)]
MEASURED = [block for block in BLOCKS if block.source]
VERSIONS = re.compile(r"(?:Python|torch|CrypTen|with)[ (]+\d[\d.]*(?:(?:,| to| or) \d[\d.]*)*")
# Pages on which a number with two decimals has to say where it comes from.
STRICT = ("README.md", "quickstart.md", "training.md", "python.md", "faq.md", "operations.md", "settings.md")


@pytest.mark.parametrize("block", MEASURED, ids=lambda block: f"{block.page.name}: {block.text.strip()[:30]}")
def test_printed_numbers_are_those_of_the_file(block: Block) -> None:
    result = load(block.source)
    printed = numbers(block.text)
    assert len(printed) == len(block.pointers), [*zip(printed, block.pointers, strict=False)]
    for text, pointer in zip(printed, block.pointers, strict=True):
        if pointer != "-":
            found = value(result, pointer)
            assert found is not None, f"{pointer} is null, and {text} is printed"
            assert agrees(text, found), f"{block.page.name}: {text} is printed, {pointer} is {found}"


@pytest.mark.parametrize("source", sorted({block.source for block in MEASURED}))
def test_result_files_say_their_command_and_commit(source: str) -> None:
    command, commit = provenance(load(source))
    program, _, rest = str(command).partition(" -m ")
    assert str(command).startswith("secure-fair ") or (program == "python" and find_spec(rest.split()[0]) is not None)
    assert len(str(commit)) == 40, f"{source}: made by {commit}, which nobody can check out"


def test_there_are_measured_numbers() -> None:
    assert sum(len(block.pointers) for block in MEASURED if block.page.name == "README.md") >= 20


@pytest.mark.parametrize("name", STRICT)
def test_no_number_stands_without_its_source(name: str) -> None:
    loose = [block for block in BLOCKS if block.page.name == name and not block.marked and not _code(block)]
    found = {text: block.text for block in loose for text in DECIMAL.findall(VERSIONS.sub("", block.text))}
    assert found == {}


def _code(block: Block) -> bool:
    """Settings and commands; a console's output with numbers is marked, or starts with no fence."""
    return block.text.lstrip().startswith(("```toml", "```sh", "```python"))


@pytest.mark.parametrize(
    ("printed", "measured", "right"),
    [
        ("0.874", 0.87375, True),
        ("0.87", 0.87375, True),
        ("0.873", 0.87375, False),
        ("\u22120.158", -0.1575, True),
        ("87.4", 87.375, True),
        ("226", 226.4, True),
        ("225", 226.4, False),
        ("1,600", 1600.0, True),
        ("2", 1.9999, True),
    ],
)
def test_rounding(printed: str, measured: float, right: bool) -> None:
    assert agrees(printed, measured) is right


def test_a_wrong_number_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n<!-- measured: x.json\na/0 b*100 - -->\n| 0.50 | 25 % of `3.14` | seed 0 |\n\n```\n1\n\n2\n```\n\n"
        "<!-- not measured: by hand -->\n0.25 is a quarter\n\n0.75 is not marked\n"
    )
    table, fence, quarter, loose = list(blocks(page))[1:]
    assert table.pointers == ("a/0", "b*100", "-")
    assert numbers(table.text) == ["0.50", "25", "0"]
    result = {"a": [0.504], "b": 0.25}
    assert agrees("0.50", value(result, "a/0") or 0)
    assert agrees("25", value(result, "b*100") or 0)
    assert not agrees("0.51", value(result, "a/0") or 0)
    assert fence.text.count("```") == 2
    assert quarter.marked
    assert DECIMAL.findall(loose.text) == ["0.75"]


def test_braces_stand_for_several_pointers() -> None:
    assert expanded("a/{b,c}/{d,e}*2") == ["a/b/d*2", "a/b/e*2", "a/c/d*2", "a/c/e*2"]


def test_numbers_are_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.measured.ROOT", tmp_path)
    (tmp_path / "x.json").write_text('{"a": [0.504, -1234.5], "b": 0.257, "c": null}')
    page = tmp_path / "page.md"
    comment = "<!-- measured: x.json\na/0 b*100 - a/1 a/0~b c -->\n"
    page.write_text(f"{comment}| 0.10 | 99 % of `3.14` | seed 0 | \u22121,000.0 | +0.999 | 7 |\n")
    main(page)
    assert page.read_text() == f"{comment}| 0.50 | 26 % of `3.14` | seed 0 | \u22121,234.5 | +0.247 | 7 |\n"
