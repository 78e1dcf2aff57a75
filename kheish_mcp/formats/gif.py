"""GIF: a screen, blocks of sub-blocks, and a trailer."""

from __future__ import annotations

import struct

from ..media import Facts, Kind, Media
from .base import Format, broken

IMAGE, EXTENSION, TRAILER = 0x2C, 0x21, 0x3B


def inspect(media: Media) -> Facts:
    """Walks every block to the trailer; sizes come from the screen."""
    data = media.data
    if len(data) < 13:
        raise broken("GIF", "the screen is missing")
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place, images = 13 + _table(flags), 0
    while True:
        if place >= len(data):
            raise broken("GIF", "it has no trailer")
        code = data[place]
        if code == TRAILER:
            break
        if code == IMAGE and place + 10 < len(data):
            images += 1
            place = _blocks(data, place + 11 + _table(data[place + 9]))
        elif code == EXTENSION:
            place = _blocks(data, place + 2)
        else:
            raise broken("GIF", "a block is unknown")
    if not images or not width or not height:
        raise broken("GIF", "it holds no picture")
    return GIF.facts(width=width, height=height)


def _table(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks(data: bytes, place: int) -> int:
    """The position behind a chain of sub-blocks."""
    while place < len(data):
        length = data[place]
        place += 1 + length
        if not length:
            return place
    raise broken("GIF", "a block is cut short")


GIF = Format("image/gif", Kind.IMAGE, "gif", inspect, lambda data: data[:6] in (b"GIF87a", b"GIF89a"))
