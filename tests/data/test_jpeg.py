"""Stripping keeps every pixel and nothing else."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from secure_fair.data import jpeg

SECRET = b"Serial 12345, 52.5N 13.4E, Male"


def _image(mode: str = "RGB", **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _pixels(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    return exif


PLAIN = _image()


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        _image("L"),
        _image("CMYK"),
        _image(progressive=True, exif=_exif()),
        _image(exif=_exif(), comment=SECRET, icc_profile=SECRET * 10, dpi=(311, 97)),
        _image(restart_marker_blocks=2, comment=SECRET),
        PLAIN + SECRET,
        PLAIN + _image(exif=_exif()),
    ],
    ids=["plain", "gray", "cmyk", "progressive", "all segments", "restarts", "appended", "appended picture"],
)
def test_only_the_picture_stays(data: bytes) -> None:
    stripped = jpeg.strip(data)
    assert np.array_equal(_pixels(stripped), _pixels(data))
    assert SECRET[:6] not in stripped
    assert len(stripped) <= len(data)
    assert jpeg.strip(stripped) == stripped


def test_junk_between_segments_goes() -> None:
    assert jpeg.strip(PLAIN[:2] + SECRET + PLAIN[2:]) == jpeg.strip(PLAIN)


def test_colours_that_only_adobes_segment_explains_stay() -> None:
    """Without it, three components that are not named R, G, B are taken for a luminance and two colour differences."""
    data = bytearray(_image(keep_rgb=True))
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    for component in range(3):
        data[frame + 10 + 3 * component] = data[scan + 5 + 2 * component] = component + 1
    assert np.array_equal(_pixels(jpeg.strip(bytes(data))), _pixels(bytes(data)))


def test_the_software_and_its_settings_leave_no_density() -> None:
    assert jpeg.strip(_image(dpi=(311, 97))) == jpeg.strip(PLAIN)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\x89PNG", PLAIN[: len(PLAIN) // 2], PLAIN[:30], PLAIN[:-1]])
def test_a_broken_file_is_refused(data: bytes) -> None:
    with pytest.raises(jpeg.BROKEN):
        jpeg.strip(data)


@given(st.lists(st.tuples(st.integers(2, len(PLAIN) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damage_is_refused_or_survived_but_never_hangs(damage: list[tuple[int, int]]) -> None:
    data = bytearray(PLAIN)
    for at, value in damage:
        data[at] = value
    try:
        stripped = jpeg.strip(bytes(data))
    except jpeg.BROKEN:
        return
    assert _pixels(stripped).size
