"""A drawing surface in face coordinates, and what a camera adds to the drawing.

Face coordinates: origin at the middle of the head, one unit = the image's width, y down. Everything is a polygon, so
that pose is one affine map. Drawn at `SUPERSAMPLE` times the size and reduced, since PIL does not anti-alias polygons.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLE = 3

Points = NDArray[np.float64]  # [n, 2]
Colour = NDArray[np.float64]  # [3], 0 to 255


class Canvas:
    """An image with a pose: rotation, scale and shift of the face coordinates."""

    def __init__(self, background: Image.Image, roll: float, scale: float, shift: Points) -> None:
        self.image = background
        self._draw = ImageDraw.Draw(background)
        turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        self._map = turn * scale * background.width
        self._unit = scale * background.width
        self._centre = np.array([background.width * 0.5, background.height * 0.5]) + shift * background.width

    def _place(self, points: Points) -> Points:
        placed: Points = points @ self._map + self._centre
        return placed

    def fill(self, points: Points, colour: Colour) -> None:
        self._draw.polygon(self._place(points).ravel().tolist(), fill=_rgb(colour))

    def line(self, points: Points, colour: Colour, width: float) -> None:
        width_px = max(1, round(width * self._unit))
        self._draw.line(self._place(points).ravel().tolist(), fill=_rgb(colour), width=width_px)

    def blend(self, points: Points, colour: Colour, opacity: float, blur: float = 0.0) -> None:
        """Paint a translucent shape, with a soft edge when `blur` (in face units) is positive."""
        box, mask = self._mask(points, opacity, blur)
        self.image.paste(_rgb(colour), box, mask)

    def _mask(self, points: Points, opacity: float, blur: float) -> tuple[tuple[int, int, int, int], Image.Image]:
        placed = self._place(points)
        margin = 3 * blur * self._unit + 1
        left, top = (int(v) for v in np.floor(placed.min(0) - margin))
        right, bottom = (int(v) for v in np.ceil(placed.max(0) + margin))
        mask = Image.new("L", (max(1, right - left), max(1, bottom - top)))
        shifted = (placed - np.array([left, top])).ravel().tolist()
        ImageDraw.Draw(mask).polygon(shifted, fill=round(255 * min(max(opacity, 0.0), 1.0)))
        if blur:
            mask = mask.filter(ImageFilter.BoxBlur(blur * self._unit))
        return (left, top, left + mask.width, top + mask.height), mask


def _rgb(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (int(min(max(c, 0.0), 255.0)) for c in colour)
    return red, green, blue


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 2 * np.pi) -> Points:
    angle = np.linspace(start, stop, 28)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def arc(x: float, y: float, half: float, rise: float) -> Points:
    """A parabola from (x - half, y) to (x + half, y) whose middle is `rise` above (y down: minus)."""
    t = np.linspace(-1, 1, 13)
    return np.stack([x + half * t, y - rise * (1 - t * t)], axis=1)


def background(photo: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    base = photo.uniform(50, 210) + photo.normal(0, 25, 3)
    patches = np.clip(base + photo.normal(0, 22, (4, 4, 1)) + photo.normal(0, 8, (4, 4, 3)), 0, 255).astype(np.uint8)
    coarse = Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)
    return coarse.resize((size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE), Image.Resampling.NEAREST)


def photograph(image: Image.Image, photo: np.random.Generator) -> Image.Image:
    """Light from one side, exposure, tint, a little blur and sensor noise."""
    blur = photo.uniform(0, 0.008) * image.width
    if blur > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    pixels = np.asarray(image, dtype=np.float32)
    height, width = pixels.shape[:2]
    slope = photo.normal(0, 0.16, 2).astype(np.float32)
    light = (
        1
        + slope[0] * np.linspace(-1, 1, width, dtype=np.float32)
        + slope[1] * np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    )
    tint = (photo.normal(1.0, 0.03, 3) * photo.normal(1.0, 0.10)).astype(np.float32)
    noise = photo.standard_normal((height, width, 3), dtype=np.float32) * np.float32(photo.uniform(1, 7))
    return Image.fromarray(np.clip(pixels * light[:, :, None] * tint + noise, 0, 255).astype(np.uint8))
