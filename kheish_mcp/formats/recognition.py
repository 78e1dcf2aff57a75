"""Which format bytes are, whatever they are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..errors import MediaRejected
from ..media import Facts, Kind, Media, Pcm
from .base import Format

ALIASES: Final = {
    "image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png", "image/svg": "image/svg+xml",
    "audio/x-wav": "audio/wav", "audio/wave": "audio/wav", "audio/vnd.wave": "audio/wav", "audio/x-pn-wav": "audio/wav",
    "audio/mp3": "audio/mpeg", "audio/x-mp3": "audio/mpeg", "audio/x-mpeg": "audio/mpeg", "audio/mpeg3": "audio/mpeg",
    "audio/x-mpga": "audio/mpga", "audio/x-opus": "audio/opus", "audio/x-ogg": "audio/ogg", "application/ogg": "audio/ogg",
    "audio/x-flac": "audio/flac", "audio/x-aac": "audio/aac", "audio/aacp": "audio/aac", "audio/x-hx-aac-adts": "audio/aac",
    "audio/x-m4a": "audio/m4a", "audio/x-mp4": "audio/mp4",
    "audio/x-pcm": "audio/pcm", "audio/raw": "audio/pcm", "audio/x-l16": "audio/l16", "audio/x-l24": "audio/l24",
    "text/x-markdown": "text/markdown", "text/md": "text/markdown", "text/json": "application/json",
    "text/x-csv": "text/csv", "application/csv": "text/csv", "application/x-csv": "text/csv",
    "text/comma-separated-values": "text/csv", "application/vnd.ms-excel": "text/csv",
    "application/x-pdf": "application/pdf", "application/x-dxf": "application/dxf", "image/vnd.dxf": "application/dxf",
    "image/x-dxf": "application/dxf", "drawing/dxf": "application/dxf",
}  # fmt: skip
# What libmagic and some browsers call the same containers when they hold sound alone; a picture track is refused.
SOUND_ALONE: Final = {"video/webm": "audio/webm", "video/mp4": "audio/mp4"}
UNDECLARED: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
HEADERLESS: Final = {"audio/pcm": 16, "audio/l16": 16, "audio/l24": 24}
FASTEST, MOST_CHANNELS = 768_000, 32


def parse_media_type(text: str) -> tuple[str, Pcm | None]:
    """The normalised type of a Content-Type, and the layout that it gives headerless samples, if it does."""
    head, *rest = text.split(";")
    media_type = ALIASES.get(head.strip().lower(), head.strip().lower())
    given = {key.strip().lower(): value.strip().strip('"') for key, _, value in (part.partition("=") for part in rest)}
    rate, channels = _whole(given.get("rate"), FASTEST), _whole(given.get("channels", "1"), MOST_CHANNELS)
    if media_type in HEADERLESS and rate and channels:
        return media_type, Pcm(rate, channels, HEADERLESS[media_type])
    return media_type, None


def _whole(text: str | None, most: int) -> int | None:
    """A whole number from 1 to `most`."""
    return int(text) if text and text.isascii() and text.isdigit() and 0 < int(text[:9]) <= most else None


def recognise_among(formats: Sequence[Format], media: Media) -> Facts:
    """The facts of `media`, from its bytes first, their structure next, and the declared type last.

    MediaRejected where there are no bytes, nobody knows them, or they are not what they are declared to be.
    """
    declared, pcm = parse_media_type(media.media_type)
    if not media.data:
        raise MediaRejected("There are no bytes.", hint="Send the whole file.")
    signed = [form for form in formats if form.sniff is not None and form.sniff(media.data)]
    unsigned = {form.media_type: form for form in formats if form.sniff is None}
    ending = media.name.rsplit(".", 1)[-1].lower() if "." in media.name else ""
    if declared not in UNDECLARED:
        found = _declared(signed, unsigned, SOUND_ALONE.get(declared, declared))
    else:
        found = _named(signed, ending) or (signed[0] if signed else _unsigned(formats, unsigned, ending))
    return found.inspect(Media(media.data, found.media_type, media.name, media.pcm or pcm))


def _declared(signed: Sequence[Format], unsigned: dict[str, Format], declared: str) -> Format:
    """The declared format where the bytes may be it; a drawing that is text may be called a text."""
    known = {form.media_type: form for form in signed}
    if not signed or (signed[0].textual and declared in unsigned and unsigned[declared].kind is Kind.TEXT):
        known = unsigned
    if declared not in known:
        raise _disagreement(declared, signed[0].media_type if signed else None)
    return known[declared]


def _unsigned(formats: Sequence[Format], unsigned: dict[str, Format], ending: str) -> Format:
    """By the name's ending, else plain text; MediaRejected for an ending whose files the bytes cannot be."""
    named = _named(list(unsigned.values()), ending)
    if named is None and _named(formats, ending) is not None:
        raise _disagreement("", None)
    return named or unsigned["text/plain"]


def _named(formats: Sequence[Format], ending: str) -> Format | None:
    return next((form for form in formats if ending in (form.extension, *form.endings)), None)


def _disagreement(declared: str, found: str | None) -> MediaRejected:
    known = f"The bytes are {found}" if found else "The bytes are of no known media type"
    claim = f", and not {declared[:80]} as declared" if declared not in UNDECLARED else ""
    return MediaRejected(f"{known}{claim}.", hint="What the bytes are counts, not the name or the declared type.")
