"""The site's build: the project's own pages (README and so on) lie above docs/ and are taken in from there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ABOVE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "THIRD_PARTY_NOTICES.md", "LICENSE")


def on_files(files: Files, config: Any) -> Files:
    """README.md is the site's first page; the others keep their names."""
    for name, source in {"index.md": "README.md", **{name: name for name in ABOVE}}.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links as they are on the site: docs/x.md from above, ../x.md from below."""
    markdown = re.sub(r"\]\((?:\.\./)?README\.md", "](index.md", markdown)
    return re.sub(r"\]\((?:docs/|\.\./)", "](", markdown)
