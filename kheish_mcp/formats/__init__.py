"""How each media format is recognised and checked; one file a format family."""

from __future__ import annotations

from typing import Final

from ..media import Facts, Kind, Media
from .aac import AAC
from .base import Format
from .dxf import DXF
from .flac import FLAC
from .gif import GIF
from .jpeg import JPEG
from .mp3 import MP3, MPGA
from .mp4 import M4A, MP4
from .ogg import OGG, OPUS
from .pcm import L16, L24, PCM
from .pdf import PDF
from .png import PNG
from .recognition import parse_media_type, recognise_among
from .text import CSV, JSON, MARKDOWN, PLAIN, SVG
from .wav import WAV
from .webm import WEBM
from .webp import WEBP

__all__ = ["FORMATS", "endings_of", "extension_of", "kind_of", "parse_media_type", "recognise"]

# Where bytes fit more than one (an Opus stream is an Ogg file), the first is taken unless another is declared or named.
FORMATS: Final[tuple[Format, ...]] = (
    PNG, JPEG, WEBP, GIF, WAV, WEBM, FLAC, OPUS, OGG, MP4, M4A, MP3, MPGA, AAC, SVG, PDF, DXF,
    PCM, L16, L24, PLAIN, MARKDOWN, CSV, JSON,
)  # fmt: skip
BY_TYPE: Final = {form.media_type: form for form in FORMATS}


def recognise(media: Media) -> Facts:
    """What the bytes are; MediaRejected where they are nothing that is taken, or not what they are declared to be."""
    return recognise_among(FORMATS, media)


def kind_of(media_type: str) -> Kind | None:
    """What a person would call a media type."""
    form = BY_TYPE.get(media_type)
    return form.kind if form is not None else None


def extension_of(media_type: str) -> str:
    """The file ending of a media type, without a dot."""
    return BY_TYPE[media_type].extension if media_type in BY_TYPE else "bin"


def endings_of(media_type: str) -> tuple[str, ...]:
    """The other file endings that are as true for a media type."""
    return BY_TYPE[media_type].endings if media_type in BY_TYPE else ()
