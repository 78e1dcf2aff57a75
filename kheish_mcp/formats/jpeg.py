"""JPEG: markers with lengths, entropy-coded scans between them, and an end."""

from __future__ import annotations

import struct

from ..media import Facts, Kind, Media
from .base import Format, broken

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
BARE = frozenset({0x01, *range(0xD0, 0xD8)})
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9


def inspect(media: Media) -> Facts:
    """Walks the markers to the end of the image; sizes come from the frame header."""
    data, place, size = media.data, 2, (0, 0)
    while True:
        place = _marker(data, place)
        code = data[place]
        place += 1
        if code == END_OF_IMAGE:
            break
        if code in BARE:
            continue
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


def _marker(data: bytes, place: int) -> int:
    """The position of the next marker's code; stuffed zeros and restarts inside a scan are no markers of ours."""
    while True:
        place = data.find(b"\xff", place)
        if place < 0 or place + 1 >= len(data):
            raise broken("JPEG", "it has no end")
        place += 1
        if data[place] not in (0x00, 0xFF):
            return place


JPEG = Format("image/jpeg", Kind.IMAGE, "jpg", inspect, lambda data: data.startswith(b"\xff\xd8\xff"), ("jpeg",))
