"""FLAC: metadata blocks, then frames whose headers and ends carry checksums."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ..media import Facts, Kind, Media
from .base import Format, broken
from .mp3 import after_tags

MARK = b"fLaC"
STREAMINFO, STREAMINFO_LENGTH = 0, 34
TAG_BEHIND = 128
LARGEST_FRAME, MOST_TRIES = 1 << 20, 200


def inspect(media: Media) -> Facts:
    """Duration up to the end of the last frame, whose checksum has to hold (RFC 9639)."""
    data = media.data
    start = after_tags(data) + len(MARK)
    info = data[start + 4 : start + 4 + STREAMINFO_LENGTH]
    if len(info) < STREAMINFO_LENGTH or data[start] & 0x7F != STREAMINFO:
        raise broken("FLAC", "it does not begin with its stream's description")
    fields = int.from_bytes(info[10:18], "big")
    rate, total = fields >> 44, fields & (1 << 36) - 1
    end = len(data) - (TAG_BEHIND if data[-TAG_BEHIND:].startswith(b"TAG") else 0)
    samples = _last_sample(data, _frames_start(data, start), end, int.from_bytes(info[:2], "big"))
    if not rate or samples < total:
        raise broken("FLAC", "frames are missing")
    return FLAC.facts(duration_s=round(samples / rate, 6))


def _frames_start(data: bytes, place: int) -> int:
    """The position behind the metadata blocks."""
    while True:
        if place + 4 > len(data):
            raise broken("FLAC", "a block is missing")
        last = data[place] & 0x80
        place += 4 + int.from_bytes(data[place + 1 : place + 4], "big")
        if last:
            return place


def _last_sample(data: bytes, start: int, end: int, block: int) -> int:
    """How many samples there are up to the end of the last frame, found from behind by its two checksums."""
    sync, place = data[start : start + 2], end
    if sync not in (b"\xff\xf8", b"\xff\xf9"):
        raise broken("FLAC", "it holds no frame")
    for _ in range(MOST_TRIES):
        place = data.rfind(sync, max(start, end - LARGEST_FRAME), place)
        if place < 0:
            break
        number, length = _header(data, place)
        if length and not _crc(data[place:end], 0x8005, 16):
            return (number if sync == b"\xff\xf9" else number * block) + length
    raise broken("FLAC", "the last frame is cut short")


def _header(data: bytes, place: int) -> tuple[int, int]:
    """The number (of the frame, or of its first sample) and the samples of the frame at `place`; zeros where none is."""
    head = data[place : place + 16].ljust(16, b"\0")
    width = max(1, 8 - (head[4] ^ 0xFF).bit_length())
    number = head[4] & (0x7F >> width if width > 1 else 0x7F)
    for byte in head[5 : 4 + width]:
        number = number << 6 | byte & 0x3F
    behind = 4 + width
    code, rate = head[2] >> 4, head[2] & 15
    extra = {6: 1, 7: 2}.get(code, 0)
    written = int.from_bytes(head[behind : behind + extra], "big") + 1
    behind += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if not code or behind >= len(head) or _crc(head[: behind + 1], 0x07, 8):
        return 0, 0
    return number, LENGTHS[code](code, written)


LENGTHS: dict[int, Callable[[int, int], int]] = {
    1: lambda code, written: 192,
    **dict.fromkeys(range(2, 6), lambda code, written: 576 << code - 2),
    **dict.fromkeys((6, 7), lambda code, written: written),
    **dict.fromkeys(range(8, 16), lambda code, written: 256 << code - 8),
}


def _crc(data: bytes, polynomial: int, width: int) -> int:
    """The checksum of a run and the checksum behind it: zero where they agree."""
    table, rest, mask, shift = _table(polynomial, width), 0, (1 << width) - 1, width - 8
    for byte in data:
        rest = rest << 8 & mask ^ table[rest >> shift ^ byte]
    return rest


@cache
def _table(polynomial: int, width: int) -> tuple[int, ...]:
    def entry(value: int) -> int:
        value <<= width - 8
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> width - 1 else 0)
            value &= (1 << width) - 1
        return value

    return tuple(entry(value) for value in range(256))


FLAC = Format(
    "audio/flac", Kind.AUDIO, "flac", inspect, lambda data: data.startswith(MARK, after_tags(data)), ("fla",)
)  # fmt: skip
