"""Draws one procedural face: traits and two random generators in, an image out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from secure_fair.data.canvas import SUPERSAMPLE, Canvas, Colour, Points, arc, background, ellipse, photograph

SKIN_TONES = ("pale", "medium", "dark")
HAIR_COLOURS = ("black", "brown", "blond", "gray")

_SKIN = np.array([[242, 206, 184], [205, 155, 118], [120, 78, 54]], dtype=np.float64)
_HAIR = np.array([[32, 27, 26], [94, 60, 36], [206, 168, 98], [165, 165, 165]], dtype=np.float64)
_IRIS = np.array([[70, 45, 25], [60, 90, 130], [70, 100, 60], [90, 70, 50]], dtype=np.float64)
_WHITE = np.array([244.0, 242.0, 238.0])


@dataclass(frozen=True)
class Traits:
    """What a face shows. `smile` is a latent strength (about -1: a flat or sad mouth, about +1: a broad smile)."""

    smile: float
    male: bool
    age: float  # years
    skin: int  # index into SKIN_TONES
    hair: int  # index into HAIR_COLOURS
    bald: bool
    wavy: bool
    bangs: bool
    beard: bool
    bushy: bool
    glasses: bool
    open_mouth: bool
    lipstick: bool


@dataclass(frozen=True)
class _Shape:
    """A person's own proportions; the same in every photograph of that person."""

    width: float
    height: float
    taper: float  # how much narrower the chin is than the cheeks
    eye_distance: float
    eye_size: float
    brow_height: float
    nose_length: float
    mouth_width: float
    lips: float
    hair_volume: float
    hair_length: float  # y where the hair ends
    parting: float
    skin: Colour
    hair: Colour
    iris: Colour

    @classmethod
    def of(cls, traits: Traits, rng: np.random.Generator) -> _Shape:
        """Proportions overlap between the sexes, hair length nearly does not."""
        male = float(traits.male)
        short = rng.random() < (0.92 if traits.male else 0.1)
        return cls(
            width=0.255 + 0.012 * male + rng.normal(0, 0.012),
            height=0.335 + rng.normal(0, 0.014),
            taper=float(np.clip(0.42 - 0.17 * male + rng.normal(0, 0.04), 0.1, 0.55)),
            eye_distance=0.112 + rng.normal(0, 0.007),
            eye_size=0.050 - 0.005 * male + rng.normal(0, 0.004),
            brow_height=0.082 - 0.014 * male + rng.normal(0, 0.007),
            nose_length=0.128 + 0.008 * male + rng.normal(0, 0.010),
            mouth_width=0.098 + rng.normal(0, 0.009),
            lips=0.017 - 0.004 * male + abs(rng.normal(0, 0.004)),
            hair_volume=rng.uniform(0.9, 1.25) * (0.9 if short else 1.1),
            hair_length=rng.uniform(-0.14, -0.04) if short else rng.uniform(0.22, 0.52),
            parting=rng.uniform(-0.12, 0.12),
            skin=np.clip(_SKIN[traits.skin] + rng.normal(0, 6) + rng.normal(0, 3, 3), 0, 255),
            hair=np.clip(_HAIR[traits.hair] + rng.normal(0, 8) + rng.normal(0, 4, 3), 0, 255),
            iris=_IRIS[rng.integers(len(_IRIS))] * rng.uniform(0.8, 1.2),
        )


def draw(traits: Traits, person: np.random.Generator, photo: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Draw one photograph of `size` = (width, height) pixels.

    `person` decides proportions and colours, `photo` pose, gaze, clothes, light, blur and noise: the same person in
    another photograph is the same state of `person` with another `photo`.
    """
    shape = _Shape.of(traits, person)
    yaw = photo.normal(0, 0.35)
    canvas = Canvas(
        background(photo, size),
        roll=photo.normal(0, 0.07),
        scale=photo.normal(1.16, 0.05),
        shift=photo.normal(0, 0.02, 2) + np.array([0.0, 0.02]),
    )
    _hair_behind(canvas, traits, shape, photo)
    _body(canvas, shape, photo)
    _head(canvas, traits, shape, yaw)
    _features(canvas, traits, shape, yaw, photo)
    _hair_in_front(canvas, traits, shape, photo)
    if traits.glasses:
        _glasses(canvas, shape, yaw, photo)
    return photograph(canvas.image.reduce(SUPERSAMPLE), photo)


def _outline(shape: _Shape, grow: float = 1.0) -> Points:
    """The head: an ellipse whose lower half narrows to the chin."""
    angle = np.linspace(0, 2 * np.pi, 48)
    low = np.maximum(np.sin(angle), 0.0)
    x = shape.width * grow * np.cos(angle) * (1 - shape.taper * low**2.5) * (1 + 0.1 * low * (1 - low))
    return np.stack([x, shape.height * grow * np.sin(angle)], axis=1)


def _hair_edge(traits: Traits, shape: _Shape, photo: np.random.Generator, start: float, stop: float) -> Points:
    """Outer edge of the hair over the skull; waves are ripples of the edge."""
    angle = np.linspace(start, stop, 60)
    ripple = 0.05 * np.sin(11 * angle + photo.uniform(0, 6)) if traits.wavy else 0.006 * np.sin(5 * angle)
    volume = 1 + 0.13 * shape.hair_volume + (0.04 if traits.wavy else 0.0) + ripple
    return np.stack([shape.width * volume * np.cos(angle), shape.height * volume * np.sin(angle) - 0.01], axis=1)


def _hair_behind(canvas: Canvas, traits: Traits, shape: _Shape, photo: np.random.Generator) -> None:
    if traits.bald or shape.hair_length < 0:
        return
    top = _hair_edge(traits, shape, photo, np.pi, 2 * np.pi)
    y = np.linspace(0, shape.hair_length, 24)
    amount, pitch = (0.028, 60.0) if traits.wavy else (0.004, 20.0)
    flare = 0.06 * (y / 0.5) + amount * np.sin(pitch * y + photo.uniform(0, 6))
    right = np.stack([top[-1, 0] + flare, y], axis=1)
    left = np.stack([top[0, 0] - flare, y], axis=1)[::-1]
    canvas.fill(np.concatenate([top, right, left]), shape.hair * 0.8)
    for side, strand in ((1, right), (-1, left)):
        for inset in (0.02, 0.045):
            tone = photo.uniform(0.65, 1.25)
            canvas.line(strand - np.array([side * inset, 0.0]), shape.hair * tone, 0.008)


def _body(canvas: Canvas, shape: _Shape, photo: np.random.Generator) -> None:
    cloth = photo.uniform(30, 200) + photo.normal(0, 35, 3)
    neck = shape.width * 0.5
    chin = shape.height
    canvas.fill(
        np.array([[-neck, 0.1], [neck, 0.1], [neck * 1.1, chin + 0.3], [-neck * 1.1, chin + 0.3]]), shape.skin * 0.82
    )
    collar = photo.uniform(0.07, 0.13)
    shoulders = np.array([[-0.75, 0.85], [-0.55, chin + 0.15], [-neck, chin + 0.05], [0, chin + 0.05 + collar]])
    canvas.fill(np.concatenate([shoulders, shoulders[::-1] * np.array([-1.0, 1.0])]), cloth)


def _head(canvas: Canvas, traits: Traits, shape: _Shape, yaw: float) -> None:
    for side in (-1, 1):
        canvas.fill(ellipse(side * shape.width * 0.99, 0.0, 0.03, 0.06), shape.skin * 0.88)
    canvas.fill(_outline(shape), shape.skin)
    # Soft planes: the far cheek darker, the forehead and the near cheek lighter.
    canvas.blend(ellipse(0.06 * yaw, -0.19, 0.13, 0.06), shape.skin * 1.1 + 6, 0.6, 0.03)
    for side in (-1, 1):
        light = 1.0 + 0.06 * side * np.sign(yaw)
        canvas.blend(
            ellipse(side * 0.13 + 0.03 * yaw, 0.09, 0.055, 0.05),
            shape.skin * light + np.array([10, -4, -4]),
            0.5,
            0.02,
        )
    if traits.beard:
        angle = np.linspace(0.05 * np.pi, 0.95 * np.pi, 30)
        outer = np.stack(
            [shape.width * np.cos(angle) * (1 - shape.taper * np.sin(angle) ** 2.5), shape.height * np.sin(angle)],
            axis=1,
        )
        inner = ellipse(0.03 * yaw, 0.12, 0.15, 0.06, 0.95 * np.pi, 0.05 * np.pi)
        canvas.blend(np.concatenate([outer, inner]), shape.hair * 0.9, 0.75, 0.006)
        canvas.blend(arc(0.04 * yaw, 0.155, 0.085, 0.03), shape.hair * 0.9, 0.75, 0.005)
    wrinkles = float(np.clip((traits.age - 38) / 30, 0, 1))
    if wrinkles:
        for level in (-0.215, -0.185, -0.155):
            canvas.line(arc(0.05 * yaw, level, 0.11, 0.008), shape.skin * (1 - 0.2 * wrinkles), 0.005)


def _features(canvas: Canvas, traits: Traits, shape: _Shape, yaw: float, photo: np.random.Generator) -> None:
    turn = 0.05 * yaw  # a turned head moves the inner features sideways, the nose most
    dark = shape.skin * 0.62
    squint = 1 - 0.16 * float(np.clip(traits.smile, 0, 1.5))
    opening = float(np.clip(photo.normal(0.52, 0.07), 0.35, 0.7)) * squint
    gaze = photo.normal(0, 0.2, 2) * np.array([1.0, 0.5])
    tilt = photo.normal(0, 0.006)
    aged = float(np.clip((traits.age - 38) / 30, 0, 1))
    for side in (-1, 1):
        x, y, size = side * shape.eye_distance + turn, -0.055, shape.eye_size
        if aged:
            canvas.line(arc(x, y + 0.04, size, -0.018), shape.skin * (1 - 0.25 * aged), 0.006)
            crow = x + side * size * 1.15
            canvas.line(np.array([[crow, y], [crow + side * 0.03, y - 0.012]]), shape.skin * (1 - 0.25 * aged), 0.005)
        canvas.blend(ellipse(x, y - 0.01, size * 1.25, size * 0.9), shape.skin * 0.85, 0.6, 0.01)
        canvas.fill(ellipse(x, y, size, size * opening), _WHITE * 0.96)
        iris_x, iris_y = (float(v) for v in np.array([x, y]) + gaze * size * 0.6)
        radius = size * min(0.42, opening * 0.85)
        canvas.fill(ellipse(iris_x, iris_y, radius, radius), shape.iris)
        canvas.fill(ellipse(iris_x, iris_y, radius * 0.5, radius * 0.5), shape.iris * 0.15)
        canvas.fill(ellipse(iris_x - radius * 0.3, iris_y - radius * 0.35, radius * 0.25, radius * 0.25), _WHITE)
        lid = 0.012 if not traits.male else 0.008
        canvas.line(ellipse(x, y, size, size * opening, np.pi, 2 * np.pi), shape.skin * 0.3, lid)
        brow = arc(x, y - shape.brow_height + side * tilt, size * 1.2, 0.012 + 0.01 * (not traits.male))
        thick = (0.015 if traits.male else 0.009) * (1.7 if traits.bushy else 1.0)
        canvas.line(brow, shape.hair * 0.55 + shape.skin * 0.15, thick)
    nose_y = -0.04 + shape.nose_length
    nose = 1.5 * turn
    canvas.line(np.array([[0.4 * nose + 0.014, -0.03], [nose + 0.022, nose_y - 0.02]]), shape.skin * 0.88, 0.010)
    canvas.blend(ellipse(nose, nose_y - 0.01, 0.034, 0.022), shape.skin * 1.08, 0.7, 0.008)
    canvas.line(arc(nose, nose_y, 0.032, -0.014), dark, 0.008)
    _mouth(canvas, traits, shape, turn, photo)


def _mouth(canvas: Canvas, traits: Traits, shape: _Shape, turn: float, photo: np.random.Generator) -> None:
    """The task's cue: `smile` bends the mouth line, lifts its corners, widens it and folds the cheeks.

    All four follow the one latent number, so they add no evidence to each other; asymmetry, an open mouth and the
    thickness of the lips vary on their own.
    """
    smile = traits.smile
    half = shape.mouth_width * (1 + 0.10 * float(np.clip(smile, -1, 1.5)))
    bend = -0.036 * smile
    y = 0.182 - 0.5 * bend + photo.normal(0, 0.006)
    skew = photo.normal(0, 0.005)
    middle = arc(turn, y, half, bend) + np.linspace(-skew, skew, 13)[:, None] * np.array([0.0, 1.0])
    profile = (1 - np.linspace(-1, 1, 13) ** 2)[:, None] * np.array([0.0, 1.0])
    gap = (photo.uniform(0.018, 0.04) if traits.open_mouth else 0.0) * profile
    lip = shape.skin * 0.72 + np.array([34.0, -6.0, -2.0])
    if traits.lipstick:
        lip = np.array([178.0, 32.0, 58.0]) * photo.uniform(0.8, 1.15)
    upper, lower = middle - profile * shape.lips * 0.9, middle + gap + profile * shape.lips * 1.25
    if smile > 0:
        for side in (-1, 1):
            fold = np.array([[0.055, 0.09], [0.5 * half + 0.055, 0.13], [half + 0.022, y - 0.012]]) * np.array(
                [side, 1.0]
            )
            canvas.line(fold + np.array([turn, 0.0]), shape.skin * (1 - 0.16 * min(smile, 1.5)), 0.007)
    canvas.fill(np.concatenate([upper, lower[::-1]]), lip)
    if traits.open_mouth:
        canvas.fill(np.concatenate([middle, (middle + gap)[::-1]]), np.array([70.0, 25.0, 28.0]))
        canvas.fill(np.concatenate([middle, (middle + 0.55 * gap)[::-1]]), _WHITE * 0.97)
    else:
        canvas.line(middle, lip * 0.45, 0.008)


def _hair_in_front(canvas: Canvas, traits: Traits, shape: _Shape, photo: np.random.Generator) -> None:
    if traits.bald:
        canvas.blend(ellipse(0.05, -shape.height * 0.78, 0.08, 0.035), _WHITE, 0.35, 0.02)
        return
    long = shape.hair_length > 0
    reach = 0.10 * np.pi if long else -0.02 * np.pi
    outer = _hair_edge(traits, shape, photo, np.pi - reach, 2 * np.pi + reach)
    edge = shape.width * 0.97
    fringe = -0.115 if traits.bangs else -0.235 + photo.normal(0, 0.008)
    t = np.linspace(1, -1, 31)
    line = fringe - 0.05 * (1 - t * t) * (0.1 if traits.bangs else 1.0) + 0.10 * np.abs(t) ** 6
    line += (0.014 * np.sin(13 * t + 1) if traits.wavy else 0.005 * np.sin(23 * t)) + 0.05 * shape.parting * t
    line = np.maximum(line, -0.95 * shape.height)
    skull = shape.width * np.sqrt(1 - (line / shape.height) ** 2)  # half the head's width at that height
    hairline = np.stack([0.97 * skull * t, line], axis=1)
    canvas.fill(np.concatenate([outer, hairline]), shape.hair)
    if long:
        for side in (-1, 1):
            y = np.linspace(-0.12, min(shape.hair_length, 0.3), 20)
            wave = (0.016 * np.sin(55 * y + side) if traits.wavy else 0.0) + 0.03 * (y + 0.12)
            inner = np.stack([side * (edge * 0.90 + 0.35 * wave), y], axis=1)
            rim = np.stack([side * (edge * 1.12 + wave), y], axis=1)[::-1]
            canvas.fill(np.concatenate([inner, rim]), shape.hair * 0.93)
    for start in photo.uniform(-0.8, 0.8, 6):  # strands
        sweep = np.linspace(0, 1, 12)
        ripple = 0.012 * np.sin(14 * sweep + start) if traits.wavy else 0.0
        x = shape.width * (shape.parting + (start - shape.parting) * (0.3 + 0.75 * sweep)) + ripple
        y = -shape.height * (1.06 - 0.22 * sweep - 0.35 * (np.abs(start) * sweep) ** 2)
        canvas.line(np.stack([x, y], axis=1), shape.hair * photo.uniform(0.8, 1.15) + 4, 0.006)


def _glasses(canvas: Canvas, shape: _Shape, yaw: float, photo: np.random.Generator) -> None:
    frame = photo.uniform(10, 70, 3)
    turn, radius = 0.05 * yaw, shape.eye_size * 1.5
    for side in (-1, 1):
        x = side * shape.eye_distance + turn
        canvas.line(ellipse(x, -0.05, radius, radius * 0.85), frame, 0.012)
        canvas.line(np.array([[x + side * radius, -0.06], [side * shape.width, -0.07]]), frame, 0.010)
    canvas.line(arc(turn, -0.055, shape.eye_distance - radius, 0.012), frame, 0.012)
