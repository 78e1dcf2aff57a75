"""PNG: a signature and a chain of chunks, each with its CRC."""

from __future__ import annotations

import struct
import zlib

from ..media import Facts, Kind, Media
from .base import Format, broken

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def inspect(media: Media) -> Facts:
    """Walks every chunk to IEND, checking lengths and CRCs; sizes come from IHDR."""
    data = memoryview(media.data)
    place, seen = len(SIGNATURE), set[bytes]()
    width = height = 0
    while b"IEND" not in seen:
        if place + 12 > len(data):
            raise broken("PNG", "a chunk is missing")
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            raise broken("PNG", "a chunk is cut short")
        if zlib.crc32(data[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise broken("PNG", "a checksum does not match")
        if not seen:
            if name != b"IHDR" or length != 13:
                raise broken("PNG", "it does not begin with IHDR")
            width, height = struct.unpack_from(">II", data, place + 8)
        seen.add(bytes(name))
        place = end + 4
    if not width or not height or b"IDAT" not in seen:
        raise broken("PNG", "it holds no picture")
    return PNG.facts(width=width, height=height)


PNG = Format("image/png", Kind.IMAGE, "png", inspect, lambda data: data.startswith(SIGNATURE))
