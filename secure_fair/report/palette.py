"""The page's colours, light and dark: one place, so that a test can compute the contrast of what is used together."""

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
