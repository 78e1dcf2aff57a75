"""JPEG: markers with lengths, entropy-coded scans between them, and an end."""

from __future__ import annotations

import re
import struct

from ..media import Facts, Kind, Media
from .base import Format, broken, within_reason

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# The next marker that says something: stuffed zeros, fill bytes and restarts inside a scan do not.
MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")
END_OF_IMAGE = 0xD9


def inspect(media: Media) -> Facts:
    """Walks the markers to the end of the image; sizes come from the frame header."""
    data, place, size = media.data, 2, (0, 0)
    for _ in within_reason("JPEG"):
        marker = MARKER.search(data, place)
        if marker is None:
            raise broken("JPEG", "it has no end")
        code, place = marker[1][0], marker.end()
        if code == END_OF_IMAGE:
            break
        if place + 2 > len(data):
            raise broken("JPEG", "a segment is missing")
        length = struct.unpack_from(">H", data, place)[0]
        if length < 2 or place + length > len(data):
            raise broken("JPEG", "a segment is cut short")
        if code in FRAMES and length >= 8:
            height, width = struct.unpack_from(">HH", data, place + 3)
            size = (width, height)
        place += length
    if not all(size):
        raise broken("JPEG", "it holds no frame")
    return JPEG.facts(width=size[0], height=size[1])


JPEG = Format("image/jpeg", Kind.IMAGE, "jpg", inspect, lambda data: data.startswith(b"\xff\xd8\xff"), ("jpeg", "jpe"))
