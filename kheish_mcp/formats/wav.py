"""WAV: a RIFF file with one format and one run of samples; headerless samples are wrapped into it and taken out of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..errors import MediaRejected
from ..media import Facts, Kind, Media, Pcm
from .base import Format, broken

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
UNKNOWN_LENGTHS = frozenset({0, 0xFFFFFFFF})


@dataclass(frozen=True, slots=True)
class Layout:
    """A WAV's format (`code` as in the file) and where its samples lie."""

    code: int
    pcm: Pcm
    start: int
    length: int

    @property
    def duration_s(self) -> float:
        """Seconds of sound."""
        return self.length / (self.pcm.rate * self.pcm.frame_bytes)


def layout_of(data: bytes) -> Layout:
    """Reads the chunks; MediaRejected where the format is missing or the samples are cut short.

    A streaming encoder writes 0 or 0xFFFFFFFF for lengths that it does not know yet: then the samples go to the end.
    """
    place, form = 12, None
    while place + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, place)
        place += 8
        if name == b"data":
            return _with_samples(form, data, place, length)
        if place + length > len(data):
            raise broken("WAV", "a chunk is cut short")
        if name == b"fmt " and length >= 16:
            form = struct.unpack_from("<HHIIHH", data, place)
        place += length + (length & 1)
    raise broken("WAV", "it holds no samples")


def _with_samples(form: tuple[int, ...] | None, data: bytes, start: int, length: int) -> Layout:
    if form is None:
        raise broken("WAV", "the format is missing")
    code, channels, rate, _, block, bits = form
    if not channels or not rate or bits % 8 or not bits or block != channels * bits // 8:
        raise broken("WAV", "the format contradicts itself")
    there = len(data) - start
    if length in UNKNOWN_LENGTHS:
        length = there - there % block
    if length > there:
        raise broken("WAV", "samples are missing")
    return Layout(code, Pcm(rate, channels, bits), start, length)


def wrap(samples: bytes, pcm: Pcm) -> bytes:
    """The samples as a WAV file."""
    byte_rate = pcm.rate * pcm.frame_bytes
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, PCM, pcm.channels, pcm.rate, byte_rate,
        pcm.frame_bytes, pcm.bits, b"data", len(samples),
    )  # fmt: skip
    return head + samples


def unwrap(data: bytes) -> tuple[bytes, Pcm]:
    """The samples of a WAV file and how they are laid out; MediaRejected for anything but integer samples."""
    layout = layout_of(data)
    if layout.code not in (PCM, EXTENSIBLE):
        raise MediaRejected("The WAV does not hold plain samples.", hint="Convert it to 16-bit PCM.")
    return data[layout.start : layout.start + layout.length], layout.pcm


def inspect(media: Media) -> Facts:
    """Layout and duration."""
    layout = layout_of(media.data)
    if layout.code not in (PCM, FLOAT, EXTENSIBLE):
        return WAV.facts()
    return WAV.facts(duration_s=round(layout.duration_s, 6))


WAV = Format(
    "audio/wav", Kind.AUDIO, "wav", inspect, lambda data: data[:4] in (b"RIFF", b"RIFX") and data[8:12] == b"WAVE", ("wave",)
)  # fmt: skip
