"""WebM with sound alone: an EBML header and a segment whose tracks are all audio."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..errors import MediaRejected
from ..media import Facts, Kind, Media
from .base import Format, broken, within_reason

EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
TIMECODE, SIMPLE_BLOCK = 0xE7, 0xA3
INFO, SCALE, DURATION, TRACKS, TRACK, TRACK_TYPE = 0x1549A966, 0x2AD7B1, 0x4489, 0x1654AE6B, 0xAE, 0x83
AUDIO = 2
LONGEST_S = 1e7


def _number(data: bytes, place: int, *, keep_mark: bool) -> tuple[int, int]:
    """A variable-length number and the position behind it; MediaRejected where it is cut or malformed."""
    if place >= len(data) or not data[place]:
        raise broken("WebM", "an element is malformed")
    width = 9 - data[place].bit_length()
    if place + width > len(data):
        raise broken("WebM", "an element is cut short")
    value = int.from_bytes(data[place : place + width], "big")
    return (value if keep_mark else value & (1 << 7 * width) - 1), place + width


def _elements(data: bytes, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Each element between two positions as (id, start, end); an unknown length goes to the end."""
    for _ in within_reason("WebM"):
        if place >= end:
            return
        name, place = _number(data, place, keep_mark=True)
        first = place
        length, place = _number(data, place, keep_mark=False)
        unknown = length == (1 << 7 * (place - first)) - 1
        stop = end if unknown else place + length
        if stop > end:
            raise broken("WebM", "an element is cut short")
        yield name, place, stop
        place = stop


def inspect(media: Media) -> Facts:
    """Reads header, duration and tracks; MediaRejected where there is a picture track or no sound."""
    data = media.data
    top = {name: (start, stop) for name, start, stop in _elements(data, 0, len(data))}
    if EBML not in top or SEGMENT not in top:
        raise broken("WebM", "the segment is missing")
    parts = {name: (start, stop) for name, start, stop in _elements(data, *top[SEGMENT])}
    kinds = _track_kinds(data, *parts[TRACKS]) if TRACKS in parts else set()
    if CLUSTER not in parts or AUDIO not in kinds:
        raise broken("WebM", "it holds no sound")
    if kinds != {AUDIO}:
        raise MediaRejected("The WebM holds a video.", hint="Send its sound alone.")
    return WEBM.facts(duration_s=_duration(data, parts.get(INFO, (0, 0)), parts[CLUSTER]))


def _track_kinds(data: bytes, start: int, stop: int) -> set[int]:
    tracks = [(first, last) for name, first, last in _elements(data, start, stop) if name == TRACK]
    fields = [field for track in tracks for field in _elements(data, *track)]
    return {int.from_bytes(data[first:last], "big") for name, first, last in fields if name == TRACK_TYPE}


def _duration(data: bytes, info: tuple[int, int], cluster: tuple[int, int]) -> float | None:
    """Seconds as the header says, or up to the start of the last block: a live recorder leaves no length behind."""
    fields = {name: data[first:last] for name, first, last in _elements(data, *info)}
    scale = int.from_bytes(fields.get(SCALE, b"\x0f\x42\x40")[:8], "big")
    form = {4: ">f", 8: ">d"}.get(len(fields.get(DURATION, b"")))
    ticks = float(struct.unpack(form, fields[DURATION])[0]) if form else _last_block(data, *cluster)
    seconds = ticks * scale / 1e9
    return round(seconds, 6) if 0 < seconds < LONGEST_S else None


def _last_block(data: bytes, start: int, stop: int) -> int:
    """The time of the last block in ticks; a cluster of unknown length holds the ones behind it."""
    elements, base, last = _elements(data, start, stop), 0, 0
    while element := next(elements, None):
        name, first, end = element
        if name == CLUSTER:
            elements = _elements(data, first, end)
        elif name == TIMECODE:
            base = int.from_bytes(data[first : min(end, first + 8)], "big")
        elif name == SIMPLE_BLOCK:
            # Its time within the cluster stands behind the track's number, one byte where there is one track.
            last = base + int.from_bytes(data[first + 1 : min(end, first + 3)], "big", signed=True)
    return last


def sniff(data: bytes) -> bool:
    """An EBML header whose document type is webm."""
    return data[:4] == b"\x1a\x45\xdf\xa3" and b"\x42\x82\x84webm" in data[:64]


WEBM = Format("audio/webm", Kind.AUDIO, "webm", inspect, sniff, ("weba",))
