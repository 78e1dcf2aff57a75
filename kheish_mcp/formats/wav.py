"""WAV: a RIFF file with one format and one run of samples; headerless samples are wrapped into it and taken out of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..errors import MediaRejected
from ..media import Facts, Kind, Media, Pcm
from .base import Format, broken, within_reason

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
SAMPLED = frozenset({PCM, FLOAT})
UNKNOWN_LENGTHS = frozenset({0, 0xFFFFFFFF})


@dataclass(frozen=True, slots=True)
class Layout:
    """A WAV's format (`code` as in the file, an extensible one's own), where its samples lie, and bytes a second.

    `pcm` is only there where the format has samples of whole bytes: not for the coded ones (ADPCM and the like).
    """

    code: int
    pcm: Pcm | None
    start: int
    length: int
    byte_rate: int


def layout_of(data: bytes) -> Layout:
    """Reads the chunks; MediaRejected where the format is missing or the samples are cut short.

    A streaming encoder writes 0 or 0xFFFFFFFF for lengths that it does not know yet: then the samples go to the end.
    """
    place, form = 12, b""
    for _ in within_reason("WAV"):
        if place + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, place)
        place += 8
        if name == b"data":
            return _with_samples(form, data, place, length)
        if place + length > len(data):
            raise broken("WAV", "a chunk is cut short")
        if name == b"fmt " and length >= 16:
            form = data[place : place + length]
        place += length + (length & 1)
    raise broken("WAV", "it holds no samples")


def _with_samples(form: bytes, data: bytes, start: int, length: int) -> Layout:
    if not form:
        raise broken("WAV", "the format is missing")
    code, channels, rate, byte_rate, block, bits = struct.unpack_from("<HHIIHH", form)
    if code == EXTENSIBLE and len(form) >= 26:
        code = struct.unpack_from("<H", form, 24)[0]
    if not channels or not rate or not block or not byte_rate:
        raise broken("WAV", "the format contradicts itself")
    pcm = None
    if code in SAMPLED:
        pcm = Pcm(rate, channels, block // channels * 8)
        if block != pcm.frame_bytes or not bits or bits > pcm.bits or byte_rate != rate * block:
            raise broken("WAV", "the format contradicts itself")
    there = len(data) - start
    length = there if length in UNKNOWN_LENGTHS else length
    if length > there:
        raise broken("WAV", "samples are missing")
    if not length - length % block:
        raise broken("WAV", "it holds no samples")
    return Layout(code, pcm, start, length - length % block, byte_rate)


def wrap(samples: bytes, pcm: Pcm) -> bytes:
    """The samples as a WAV file."""
    byte_rate, odd = pcm.rate * pcm.frame_bytes, len(samples) & 1
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples) + odd, b"WAVE", b"fmt ", 16, PCM, pcm.channels, pcm.rate,
        byte_rate, pcm.frame_bytes, pcm.bits, b"data", len(samples),
    )  # fmt: skip
    return head + samples + bytes(odd)


def unwrap(data: bytes) -> tuple[bytes, Pcm]:
    """The samples of a WAV file and how they are laid out; MediaRejected for anything but integer samples."""
    layout = layout_of(data)
    if layout.code != PCM or layout.pcm is None:
        raise MediaRejected("The WAV does not hold plain samples.", hint="Convert it to 16-bit PCM.")
    return data[layout.start : layout.start + layout.length], layout.pcm


def inspect(media: Media) -> Facts:
    """The duration, by the format's own bytes a second."""
    layout = layout_of(media.data)
    return WAV.facts(duration_s=round(layout.length / layout.byte_rate, 6))


WAV = Format(
    "audio/wav", Kind.AUDIO, "wav", inspect, lambda data: data[:4] == b"RIFF" and data[8:12] == b"WAVE", ("wave",)
)  # fmt: skip
