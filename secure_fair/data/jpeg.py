"""Losslessly strips a JPEG file of everything but the picture."""

from __future__ import annotations

import io
import re

from PIL import Image

# What PIL raises on a file that is not a whole picture.
BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)

_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
# In entropy-coded data 0xff is followed by 0 (a stuffed byte) or by a restart marker; anything else is a marker.
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)
_END, _SCAN, _APP0, _ADOBE, _APP15, _COMMENT = 0xD9, 0xDA, 0xE0, 0xEE, 0xEF, 0xFE


def strip(data: bytes) -> bytes:
    """Copy the picture's own segments; drop EXIF, thumbnails, profiles, comments and whatever follows the picture.

    A camera's serial number or a place would tell about a person, and an appended block about anything. The Adobe
    segment stays, since colours depend on it; an orientation tag goes (aligned faces have none). Decodes the result
    once. Raises one of BROKEN when this is no whole JPEG.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError("not a JPEG file")
    kept = [data[:2]]
    at, in_scan, has_jfif = 2, False, False
    while True:
        match = _MARKER.search(data, at)
        if match is None:
            raise ValueError("the file ends before the picture does")
        if in_scan:
            kept.append(data[at : match.start()])
        code, body = match[1][0], match.end()
        if code == _END:
            break
        at = body + int.from_bytes(data[body : body + 2], "big")
        in_scan = code == _SCAN
        if code == _APP0 and not has_jfif:
            kept.append(_JFIF)
            has_jfif = True
        elif code == _ADOBE or not (_APP0 <= code <= _APP15 or code == _COMMENT):
            kept.append(b"\xff" + data[body - 1 : at])
    stripped = b"".join(kept) + b"\xff\xd9"
    with Image.open(io.BytesIO(stripped), formats=("JPEG",)) as image:
        image.load()
    return stripped
