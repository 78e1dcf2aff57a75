"""Ogg with sound alone: pages with checksums; Opus, Vorbis, FLAC or Speex in them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import MediaRejected
from ..media import Facts, Kind, Media
from .base import Format, broken, renamed

HEAD = struct.Struct("<4sBBqIIIB")
FIRST, LAST = 2, 4
SERIAL, SEAL = 14, 22
OPUS_RATE = 48_000
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Page:
    """One page: where it lies, its flags, the last sample that ends on it (-1: none), its stream, where its body lies."""

    head: int
    flags: int
    granule: int
    serial: int
    start: int
    end: int


@dataclass(slots=True)
class Stream:
    """One stream: its rate in Hz, the samples at its start that are not heard, and how far it has come."""

    rate: int
    skip: int
    granule: int = 0
    ended: bool = False


def _opus(head: bytes) -> Stream:
    return Stream(OPUS_RATE, struct.unpack_from("<H", head, 10)[0])


def _vorbis(head: bytes) -> Stream:
    return Stream(struct.unpack_from("<I", head, 12)[0], 0)


def _flac(head: bytes) -> Stream:
    return Stream(int.from_bytes(head[27:30], "big") >> 4, 0)


def _speex(head: bytes) -> Stream:
    return Stream(struct.unpack_from("<I", head, 36)[0], 0)


OPUS_HEAD = b"OpusHead"
HEADS: dict[bytes, Callable[[bytes], Stream]] = {
    OPUS_HEAD: _opus, b"\x01vorbis": _vorbis, b"\x7fFLAC": _flac, b"Speex   ": _speex
}  # fmt: skip


def _pages(data: bytes) -> Iterator[Page]:
    """Every page in order; MediaRejected where one is missing, cut short, or its checksum does not hold (RFC 3533)."""
    place = 0
    while place < len(data):
        if place + HEAD.size > len(data):
            raise broken("Ogg", "a page is cut short")
        mark, version, flags, granule, serial, _, crc, count = HEAD.unpack_from(data, place)
        start = place + HEAD.size + count
        end = start + sum(data[place + HEAD.size : start])
        if mark != b"OggS" or version or end > len(data):
            raise broken("Ogg", "a page is cut short")
        if _checksum(_unsealed(data, place, end)) != crc:
            raise broken("Ogg", "a checksum does not match")
        yield Page(place, flags, granule, serial, start, end)
        place = end


def _unsealed(data: bytes, start: int, end: int) -> bytes:
    """A page with zeros in place of its checksum, as the checksum is made of it."""
    return data[start : start + SEAL] + bytes(4) + data[start + SEAL + 4 : end]


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32 runs from the highest bit; zlib's from the lowest, so bits go in and come out mirrored."""
    mirrored = zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(MIRRORED), "big")


def chained(pieces: Sequence[bytes]) -> bytes:
    """One file of whole ones, played one after the other: each stream gets a number of its own (RFC 3533, chaining)."""
    serials: dict[tuple[int, int], int] = {}
    made: list[bytes] = []
    for number, data in enumerate(pieces):
        for page in _pages(data):
            serial = serials.setdefault((number, page.serial), len(serials) + 1)
            bare = bytearray(_unsealed(data, page.head, page.end))
            bare[SERIAL : SERIAL + 4] = serial.to_bytes(4, "little")
            bare[SEAL : SEAL + 4] = _checksum(bytes(bare)).to_bytes(4, "little")
            made.append(bytes(bare))
    return b"".join(made)


def inspect(media: Media) -> Facts:
    """Duration from the last position of each stream, chained ones together; MediaRejected where one is not sound."""
    streams: list[Stream] = []
    current: dict[int, Stream] = {}
    for page in _pages(media.data):
        if page.flags & FIRST:
            current[page.serial] = _stream(media.data[page.start : page.end])
            streams.append(current[page.serial])
        stream = current.get(page.serial)
        if stream is None:
            raise broken("Ogg", "a stream has no beginning")
        stream.granule = max(stream.granule, page.granule)
        stream.ended = stream.ended or bool(page.flags & LAST)
    if not all(stream.ended for stream in streams):
        raise broken("Ogg", "a stream has no end")
    seconds = sum(max(0, stream.granule - stream.skip) / stream.rate for stream in streams)
    if not seconds:
        raise broken("Ogg", "it holds no sound")
    return OGG.facts(duration_s=round(seconds, 6))


def _stream(head: bytes) -> Stream:
    read = next((HEADS[mark] for mark in HEADS if head.startswith(mark)), None)
    if read is None:
        raise MediaRejected("The Ogg holds something else than sound.", hint="Send its sound alone.")
    try:
        stream = read(head)
    except struct.error:
        stream = Stream(0, 0)
    if not stream.rate:
        raise broken("Ogg", "a stream's description is cut short")
    return stream


def _is_opus(data: bytes) -> bool:
    return data.startswith(b"OggS") and data.startswith(OPUS_HEAD, 28)


OGG = Format("audio/ogg", Kind.AUDIO, "ogg", inspect, lambda data: data.startswith(b"OggS"), ("oga", "spx"))
OPUS = renamed(OGG, "audio/opus", "opus", _is_opus)
