"""AAC: ADTS frames in a row, each with its length."""

from __future__ import annotations

from collections.abc import Iterator

from ..media import Facts, Kind, Media
from .base import Format, broken
from .mp3 import TAGS_BEHIND, after_tags

RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
HEAD = 7
SAMPLES = 1024


def _frame(data: bytes, place: int) -> tuple[int, float] | None:
    """Length in bytes and seconds of the frame whose header stands at `place`, if one does (ISO 13818-7, 6.2)."""
    if place + HEAD > len(data):
        return None
    head = int.from_bytes(data[place : place + HEAD], "big")
    rate, length = head >> 34 & 15, head >> 13 & 0x1FFF
    if head >> 44 != 0xFFF or head >> 41 & 3 or rate >= len(RATES) or length <= HEAD:
        return None
    return length, ((head & 3) + 1) * SAMPLES / RATES[rate]


def _frames(data: bytes) -> Iterator[float]:
    """The seconds of each frame; MediaRejected where the chain breaks before tags or the end."""
    place = after_tags(data)
    while place < len(data) and not data.startswith(TAGS_BEHIND, place):
        frame = _frame(data, place)
        if frame is None:
            raise broken("AAC", "a frame is not where it should be")
        place += frame[0]
        if place > len(data):
            raise broken("AAC", "the last frame is cut short")
        yield frame[1]


def sniff(data: bytes) -> bool:
    """Two frames in a row, or one that ends the file, behind any tags."""
    place = after_tags(data)
    first = _frame(data, place)
    return first is not None and (place + first[0] == len(data) or _frame(data, place + first[0]) is not None)


def inspect(media: Media) -> Facts:
    """Duration from the frames themselves."""
    return AAC.facts(duration_s=round(sum(_frames(media.data)), 6))


AAC = Format("audio/aac", Kind.AUDIO, "aac", inspect, sniff, ("adts",))
