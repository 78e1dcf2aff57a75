"""Bytes that know their media type."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a person would call it; tools ask for a kind, formats belong to one."""

    IMAGE = "image"
    AUDIO = "audio"
    TEXT = "text"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Pcm:
    """Headerless samples: `rate` in Hz, `channels`, `bits` a sample; little-endian, signed, interleaved."""

    rate: int
    channels: int = 1
    bits: int = 16

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * self.bits // 8


@dataclass(frozen=True, slots=True)
class Media:
    """Bytes, the media type they claim (`image/png`), a name if they had one, and the layout of headerless samples."""

    data: bytes
    media_type: str
    name: str = ""
    pcm: Pcm | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the bytes themselves say: sizes in pixels, duration in seconds; None where a kind has no such thing."""

    media_type: str
    kind: Kind
    extension: str
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    pcm: Pcm | None = None
