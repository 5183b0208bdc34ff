"""The documentation against the program: commands, links, keys and defaults."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from secure_fair import settings
from secure_fair.cli.config import leaves
from secure_fair.cli.main import Invocation, cli
from secure_fair.fairness.methods import METHODS
from secure_fair.privacy.policy import Policy
from secure_fair.settings import toml

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
SETTINGS = ROOT / "docs" / "settings.md"
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[str, str]]:
    """(page, command line) of each line of a code block that starts with the program's name."""
    for page in PAGES:
        for block in FENCE.findall(page.read_text()):
            for line in block.splitlines():
                if line.startswith("secure-fair "):
                    yield page.name, line


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(("page", "line"), [*commands()])
def test_commands_parse(page: str, line: str) -> None:
    """Commands, options and values exist; nothing is run."""
    _, *arguments = shlex.split(line)
    name: str = "secure-fair"
    command: click.Command = cli
    with click.Context(cli, obj=Invocation()) as context:
        while isinstance(command, click.Group):
            name, *arguments = arguments
            found = command.get_command(context, name)
            assert found is not None, f"{page}: no command {name}"
            command = found
        command.make_context(name, arguments, parent=context)


def test_commands_that_are_mentioned_exist() -> None:
    """In running text only the command's name is looked at."""
    for page in PAGES:
        for name in re.findall(r"`secure-fair ([a-z]+)", page.read_text()):
            assert name in cli.list_commands(click.Context(cli)), f"{page.name}: secure-fair {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), target
        if anchor:
            assert anchor in [slug(title) for title in re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)], (
                target
            )


def documented() -> dict[str, str]:
    """Key -> default, from the tables of settings.md."""
    rows = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| ([^|]*) \|", SETTINGS.read_text(), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a key is documented twice"
    return dict(rows)


def test_settings_and_their_defaults_are_documented() -> None:
    found = {
        key: "not set" if value is None else f"`{toml(value)}`"
        for key, value in leaves(settings.Settings().model_dump(mode="json"))
    }
    del found["version"]
    for name, field in Policy.model_fields.items():
        default = field.get_default()
        found[f"policy.{name}"] = (
            "required" if field.is_required() else "not set" if default is None else f"`{toml(default)}`"
        )
    assert documented() == found


def test_default_weights_are_documented() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| `([\w-]+)` \| ([\d.]+) \|$", SETTINGS.read_text(), re.MULTILINE)
    found = {(method.name, release): w for method in METHODS.values() for release, w in method.default_weight.items()}
    assert {(method, release): float(weight) for method, release, weight in rows} == found
