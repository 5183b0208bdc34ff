"""The site's build: the project's own pages (README and so on) lie above docs/ and are taken in from there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ABOVE = {"README.md": "index.md"} | {
    name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "THIRD_PARTY_NOTICES.md", "LICENSE")
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """README.md is the site's first page; the others keep their names."""
    for name, place in ABOVE.items():
        files.append(File.generated(config, place, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are on the site; one to a file of the checkout that no page shows becomes its text."""
    above = page.file.src_uri in ABOVE.values()

    def moved(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        name = target.removeprefix("../")
        if "://" in target or (not above and name == target):
            return found[0]
        if name in ABOVE:
            return f"[{text}]({ABOVE[name]}{anchor})"
        return f"[{text}]({name.removeprefix('docs/')}{anchor})" if name.startswith("docs/") else text

    return LINK.sub(moved, markdown)
