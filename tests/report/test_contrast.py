"""The page's colours can be told apart: WCAG 2.2, AA."""

from __future__ import annotations

import pytest

from secure_fair.report.palette import DARK, LIGHT, RELEASES

# (foreground, background, least ratio): 4.5 for text and 3 for marks, as WCAG 2.2 AA asks.
PAIRS = (
    *((text, ground, 4.5) for text in ("ink", "muted", "accent") for ground in ("page", "surface")),
    *((text, ground, 4.5) for text in ("ink", "danger") for ground in ("danger-surface", "surface")),
    *((text, ground, 4.5) for text in ("ink", "bounded") for ground in ("bounded-surface", "surface")),
    *(("on-mark", release, 4.5) for release in RELEASES),
    *((release, "surface", 3.0) for release in RELEASES),
)


def contrast(first: str, second: str) -> float:
    """WCAG's contrast ratio of two colours written as #rrggbb."""
    bright, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast_is_aa(colours: dict[str, str]) -> None:
    assert set(LIGHT) == set(DARK)
    for front, back, least in PAIRS:
        assert contrast(colours[front], colours[back]) >= least, (front, back)


def test_the_contrast_of_black_and_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
