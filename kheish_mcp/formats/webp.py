"""WebP: a RIFF file with a VP8, VP8L or VP8X picture in it."""

from __future__ import annotations

import struct

from ..media import Facts, Kind, Media
from .base import Format, broken, within_reason


def inspect(media: Media) -> Facts:
    """Walks the RIFF chunks; sizes come from the first picture chunk."""
    data = media.data
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data) or end < 20:
        raise broken("WebP", "the RIFF size does not fit the file")
    place, size, pictures = 12, (0, 0), 0
    for _ in within_reason("WebP"):
        if place + 8 > end:
            break
        name, length = struct.unpack_from("<4sI", data, place)
        if place + 8 + length > end:
            raise broken("WebP", "a chunk is cut short")
        body = data[place + 8 : place + 8 + min(length, 16)]
        size = size if all(size) else _size(name, body)
        pictures += name in (b"VP8 ", b"VP8L", b"ANMF")
        place += 8 + length + (length & 1)
    if not all(size) or not pictures:
        raise broken("WebP", "it holds no picture")
    return WEBP.facts(width=size[0], height=size[1])


def _size(name: bytes, body: bytes) -> tuple[int, int]:
    if name == b"VP8X" and len(body) >= 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if name == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if name == b"VP8 " and len(body) >= 10 and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


WEBP = Format("image/webp", Kind.IMAGE, "webp", inspect, lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP")
