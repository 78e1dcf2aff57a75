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
    """Duration where the header says it (a fragmented file's need not); MediaRejected for a video track or no sound."""
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
    return MP4.facts(duration_s=next(iter(headers), None))


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
