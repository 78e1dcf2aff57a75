"""MP3: MPEG layer III frames, with tags before and behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..media import Facts, Kind, Media
from .base import Format, broken, renamed

RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
TAGS_BEHIND = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")
SOMETHING = re.compile(rb"[^\0]")
MONO = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: where it lies, its length in bytes, its sampling rate in Hz, its samples, and what makes it alike."""

    start: int
    length: int
    rate: int
    samples: int
    version: int
    channels: int
    information: bool

    @property
    def likeness(self) -> tuple[int, int, int]:
        """Frames that differ in this cannot stand in one stream."""
        return self.version, self.rate, self.channels


def frames(data: bytes) -> Iterator[Frame]:
    """Every frame in order; MediaRejected where the chain breaks before tags, padding or the end."""
    place = after_tags(data)
    while place < len(data):
        frame = _frame(data, place)
        if frame is None:
            if data.startswith(TAGS_BEHIND, place) or not any(data[place:]):
                return
            raise broken("MP3", "a frame is not where it should be")
        if frame.start + frame.length > len(data):
            raise broken("MP3", "the last frame is cut short")
        yield frame
        place += frame.length


def after_tags(data: bytes) -> int:
    """Where the first frame begins: behind all ID3v2 tags and the zeros that some writers leave behind them."""
    place = 0
    while data[place : place + 3] == b"ID3" and place + 10 <= len(data):
        size = 0
        for byte in data[place + 6 : place + 10]:
            size = size << 7 | byte & 0x7F
        place += 10 + size + (10 if data[place + 5] & 0x10 else 0)
        sound = SOMETHING.search(data, place)
        place = sound.start() if sound else len(data)
    return place


def _frame(data: bytes, place: int) -> Frame | None:
    """The frame whose header stands at `place`, if one does."""
    if place + 4 > len(data):
        return None
    head = int.from_bytes(data[place : place + 4], "big")
    version, layer = head >> 19 & 3, head >> 17 & 3
    kbits, rate = head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer != 1 or kbits in (0, 15) or rate == 3:
        return None
    hertz = RATES[version][rate]
    samples = 1152 if version == 3 else 576
    bits = (KBITS_1 if version == 3 else KBITS_2)[kbits] * 1000
    length = samples // 8 * bits // hertz + (head >> 9 & 1)
    channels = 1 if head >> 6 & 3 == MONO else 2
    side = {(3, 2): 32, (3, 1): 17}.get((version, channels), 17 if channels == 2 else 9)
    mark = data[place + 4 + side : place + 8 + side]
    information = mark in (b"Xing", b"Info") or data[place + 36 : place + 40] == b"VBRI"
    return Frame(place, length, hertz, samples, version, channels, information)


def sniff(data: bytes) -> bool:
    """Two frames in a row, or one that ends the file, behind any tags; eleven set bits alone are no sign."""
    place = after_tags(data)
    first = _frame(data, place)
    if first is None:
        return False
    second = first.start + first.length
    return second == len(data) or data.startswith(TAGS_BEHIND, second) or _frame(data, second) is not None


def inspect(media: Media) -> Facts:
    """Duration from the frames themselves."""
    seconds = sum(frame.samples / frame.rate for frame in frames(media.data) if not frame.information)
    if not seconds:
        raise broken("MP3", "it holds no sound")
    return MP3.facts(duration_s=round(seconds, 6))


MP3 = Format("audio/mpeg", Kind.AUDIO, "mp3", inspect, sniff, ("mpga",))
MPGA = renamed(MP3, "audio/mpga", "mp3", sniff)
