"""The page's colours, light and dark: one place, so that a test can compute the contrast of every pair in use."""

from __future__ import annotations

from collections.abc import Mapping

Colours = Mapping[str, str]

# What a line or a point stands for is a release; its colour says what was disclosed, its letter which arm it is.
RELEASES = ("plaintext", "gradient", "moment", "randomized-response", "adapter", "adapter-gradient", "predictor")

LIGHT: Colours = {
    "page": "#f6f6f3",
    "surface": "#ffffff",
    "ink": "#1b1e24",
    "muted": "#565e6b",
    "line": "#d9dbdf",
    "accent": "#1f4fbf",
    "danger": "#a61b14",
    "danger-surface": "#fdeeec",
    "bounded": "#14603f",
    "bounded-surface": "#eaf4ef",
    "on-mark": "#ffffff",
    "plaintext": "#5b6370",
    "gradient": "#b3261e",
    "moment": "#2456c4",
    "randomized-response": "#0f6f67",
    "adapter": "#7a3fa8",
    "adapter-gradient": "#944b00",
    "predictor": "#a3225f",
}
DARK: Colours = {
    "page": "#121418",
    "surface": "#1b1e24",
    "ink": "#e9ebee",
    "muted": "#a9b1be",
    "line": "#3a404b",
    "accent": "#93b4ff",
    "danger": "#ff9d94",
    "danger-surface": "#37201f",
    "bounded": "#7fd6ae",
    "bounded-surface": "#17291f",
    "on-mark": "#111317",
    "plaintext": "#a6aebb",
    "gradient": "#ff8f85",
    "moment": "#8fb0ff",
    "randomized-response": "#55d0c1",
    "adapter": "#d0a8f6",
    "adapter-gradient": "#f4b673",
    "predictor": "#ff9cc4",
}

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
