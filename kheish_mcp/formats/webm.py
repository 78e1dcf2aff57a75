"""WebM with sound alone: an EBML header and a segment whose tracks are all audio."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import MediaRejected
from ..media import Facts, Kind, Media
from .base import Format, broken

EBML, DOC_TYPE, SEGMENT, CLUSTER = 0x1A45DFA3, 0x4282, 0x18538067, 0x1F43B675
INFO, SCALE, DURATION, TRACKS, TRACK, TRACK_TYPE = 0x1549A966, 0x2AD7B1, 0x4489, 0x1654AE6B, 0xAE, 0x83
AUDIO = 2


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
    while place < end:
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
    kinds, duration, clusters = list[int](), None, 0
    for name, start, stop in _elements(data, *top[SEGMENT]):
        if name == TRACKS:
            kinds += _track_kinds(data, start, stop)
        elif name == INFO:
            duration = _duration(data, start, stop)
        clusters += name == CLUSTER
    if not clusters or AUDIO not in kinds:
        raise broken("WebM", "it holds no sound")
    if set(kinds) != {AUDIO}:
        raise MediaRejected("The WebM holds a video.", hint="Send its sound alone.")
    return WEBM.facts(duration_s=duration)


def _track_kinds(data: bytes, start: int, stop: int) -> list[int]:
    tracks = [(first, last) for name, first, last in _elements(data, start, stop) if name == TRACK]
    fields = [field for track in tracks for field in _elements(data, *track)]
    return [int.from_bytes(data[first:last], "big") for name, first, last in fields if name == TRACK_TYPE]


def _duration(data: bytes, start: int, stop: int) -> float | None:
    import struct

    fields = {name: data[first:last] for name, first, last in _elements(data, start, stop)}
    scale = int.from_bytes(fields.get(SCALE, b"\x0f\x42\x40"), "big")
    form = {4: ">f", 8: ">d"}.get(len(fields.get(DURATION, b"")))
    return round(float(struct.unpack(form, fields[DURATION])[0]) * scale / 1e9, 6) if form else None


def sniff(data: bytes) -> bool:
    """An EBML header whose document type is webm."""
    return data[:4] == b"\x1a\x45\xdf\xa3" and b"\x42\x82\x84webm" in data[:64]


WEBM = Format("audio/webm", Kind.AUDIO, "webm", inspect, sniff, ("weba",))
