"""MP4 and M4A with sound alone: boxes in boxes (ISO 14496-12)."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import MediaRejected
from ..media import Facts, Kind, Media
from .base import Format, broken, renamed, within_reason

SOUND, VIDEO = b"soun", b"vide"
# Pictures in the same container.
PICTURES = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"})


def _boxes(data: bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Each box between two positions as (type, start, end) of its content; MediaRejected where one is cut short."""
    for _ in within_reason("MP4"):
        if place >= end:
            return
        length, name, start = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8], place + 8
        if length == 1:
            length, start = int.from_bytes(data[place + 8 : place + 16], "big"), place + 16
        stop = place + length if length else end
        if start > stop or stop > end:
            raise broken("MP4", "a box is cut short")
        yield name, start, stop
        place = stop


def _inside(data: bytes, place: int, end: int, *path: bytes) -> Iterator[tuple[int, int]]:
    """Where each box lies that a path of types leads to."""
    for name, start, stop in _boxes(data, place, end):
        if name == path[0]:
            if len(path) == 1:
                yield start, stop
            else:
                yield from _inside(data, start, stop, *path[1:])


def inspect(media: Media) -> Facts:
    """Duration as the header says, or its fragments together; MediaRejected for a video track or no sound."""
    data = media.data
    top = {name for name, start, stop in _boxes(data, 0, len(data)) if stop > start}
    if b"moov" not in top or b"mdat" not in top:
        raise broken("MP4", "it holds no sound")
    places = _inside(data, 0, len(data), b"moov", b"trak", b"mdia", b"hdlr")
    kinds = {data[start + 8 : start + 12] for start, _ in places}
    if VIDEO in kinds:
        raise MediaRejected("The MP4 holds a video.", hint="Send its sound alone.")
    if SOUND not in kinds:
        raise broken("MP4", "it holds no sound")
    headers = [_duration(data[start:stop]) for start, stop in _inside(data, 0, len(data), b"moov", b"mvhd")]
    return MP4.facts(duration_s=next(iter(headers), None) or _in_fragments(data))


def _in_fragments(data: bytes) -> float | None:
    """Seconds up to the end of the last fragment of the first track; None where they do not say how long samples are."""
    heads = [data[start:stop] for start, stop in _inside(data, 0, len(data), b"moov", b"trak", b"mdia", b"mdhd")]
    scale = _field(heads[0], 20 if heads[0][:1] == b"\1" else 12) if heads else 0
    usual = [_field(data[start:stop], 12) for start, stop in _inside(data, 0, len(data), b"moov", b"mvex", b"trex")]
    units = 0
    for start, stop in _inside(data, 0, len(data), b"moof", b"traf"):
        parts = {name: data[first:last] for name, first, last in _boxes(data, start, stop)}
        begin = parts.get(b"tfdt", b"")
        came = int.from_bytes(begin[4:12], "big") if begin[:1] == b"\1" else _field(begin, 4) if begin else units
        units = came + _run(parts.get(b"trun", b""), _usual(parts.get(b"tfhd", b""), usual[0] if usual else 0))
    return round(units / scale, 6) if scale and units else None


def _usual(header: bytes, otherwise: int) -> int:
    """How long a sample of a fragment is unless it says so itself."""
    flags = _field(header, 0) & 0xFFFFFF
    place = 8 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
    return _field(header, place) if flags & 8 else otherwise


def _run(samples: bytes, usual: int) -> int:
    """How long the samples of a run are together."""
    flags, count = _field(samples, 0) & 0xFFFFFF, _field(samples, 4)
    if not flags & 0x100:
        return count * usual
    place = 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
    width = 4 * (flags >> 8 & 0xF).bit_count()
    return sum(_field(samples, start) for start in range(place, min(len(samples), place + count * width), width))


def _field(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "big")


def _duration(header: bytes) -> float | None:
    """Seconds by a movie header; None where it leaves them open."""
    wide = header[:1] == b"\1"
    place, width = (20, 8) if wide else (12, 4)
    scale = int.from_bytes(header[place : place + 4], "big")
    units = header[place + 4 : place + 4 + width]
    if not scale or len(units) < width or units == b"\xff" * width or not any(units):
        return None
    return round(int.from_bytes(units, "big") / scale, 6)


def sniff(data: bytes) -> bool:
    """A file type box, and not one of a picture."""
    return data[4:8] == b"ftyp" and data[8:12] not in PICTURES


MP4 = Format("audio/mp4", Kind.AUDIO, "mp4", inspect, sniff, ("mp4a",))
M4A = renamed(MP4, "audio/m4a", "m4a", sniff, ("m4b",))
