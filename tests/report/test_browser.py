"""The page in a headless Chromium: phone and desk, light and dark, and on paper."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from secure_fair.report import page
from tests.report.world import comparison, demo_rows, seeded

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
SIZES = {"phone": (360, 740), "desk": (1280, 900)}
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "no Chromium on the path; install the system's package, or name one in the variable CHROMIUM"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = seeded(demo_rows(), 3)
    for row in rows:
        groups = row["metrics"]["by_group"]
        row["metrics"]["by_group"] = {f"{name} with-a-name-of-some-length": block for name, block in groups.items()}
    return page.write(comparison(tmp_path_factory.mktemp("browser") / "cmp", rows))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [*SIZES])
def test_it_fits_and_asks_for_nothing(
    browser: Browser, written: Path, size: str, scheme: Literal["light", "dark"], tmp_path: Path
) -> None:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    tab = context.new_page()
    told: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(written.as_uri())
    for summary in tab.locator("summary").all():
        if summary.evaluate("e => !e.parentElement.open"):
            summary.click()
    assert told == []
    assert asked == [written.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # Nothing sticks out of its box either, except inside of what scrolls.
    assert (
        tab.evaluate(
            """width => [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll')
            && e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 80))""",
            width,
        )
        == []
    )
    # The colours of the scheme are the ones that are shown.
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in background[4:-1].split(",")) < 200) is (scheme == "dark")
    picture = tmp_path / "page.png"
    tab.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 50_000
    context.close()


def test_text_of_drawings_lies_inside_of_them(browser: Browser, written: Path) -> None:
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(written.as_uri())
    outside = tab.evaluate(
        """() => [...document.querySelectorAll('figure svg[role=img]')].flatMap(svg => {
            const box = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(text => {
                const own = text.getBoundingClientRect();
                return own.left < box.left - 1 || own.right > box.right + 1
                    || own.top < box.top - 1 || own.bottom > box.bottom + 1;
            }).map(text => svg.querySelector('title').textContent + ': ' + text.textContent);
        })"""
    )
    assert outside == []
    tab.close()


def test_it_can_be_read_by_keyboard(browser: Browser, written: Path) -> None:
    tab = browser.new_page()
    tab.goto(written.as_uri())
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the results"
    tab.close()


def test_on_paper_the_tables_are_open(browser: Browser, written: Path) -> None:
    tab = browser.new_page()
    tab.goto(written.as_uri())
    tab.emulate_media(media="print", color_scheme="dark")
    heights = tab.evaluate("[...document.querySelectorAll('figure table')].map(e => e.getBoundingClientRect().height)")
    assert min(heights) > 20
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(27, 30, 36)"  # dark on white
    assert len(tab.pdf()) > 20_000
    tab.close()
