"""What all drawings share."""

from __future__ import annotations

from dataclasses import dataclass

WIDTH = 400.0
BADGE = 10.0  # radius


@dataclass(frozen=True)
class Key:
    """How an arm is told apart: a letter everywhere, and the colour of its release."""

    letter: str
    colour: str
    name: str


def shortened(text: str, most: int = 11) -> str:
    """A label that fits beside a bar; the table has it in full."""
    return text if len(text) <= most else text[: most - 1] + "\u2026"
