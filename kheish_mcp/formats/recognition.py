"""Which format bytes are, whatever they are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..errors import MediaRejected
from ..media import Facts, Kind, Media, Pcm
from .base import Format

ALIASES: Final = {
    "image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png",
    "audio/x-wav": "audio/wav", "audio/wave": "audio/wav", "audio/vnd.wave": "audio/wav", "audio/x-pn-wav": "audio/wav",
    "audio/mp3": "audio/mpeg", "audio/mpga": "audio/mpeg", "audio/x-mpeg": "audio/mpeg", "audio/x-mp3": "audio/mpeg",
    "audio/x-pcm": "audio/pcm", "audio/raw": "audio/pcm", "audio/x-l16": "audio/l16",
    "audio/x-flac": "audio/flac", "audio/x-aac": "audio/aac", "audio/x-m4a": "audio/m4a",
    "text/x-markdown": "text/markdown", "text/json": "application/json", "application/csv": "text/csv",
}  # fmt: skip
UNDECLARED: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
FASTEST, MOST_CHANNELS = 768_000, 32


def parse_media_type(text: str) -> tuple[str, Pcm | None]:
    """The normalised type of a Content-Type, and the layout that it gives headerless samples, if it does."""
    head, *rest = text.split(";")
    media_type = ALIASES.get(head.strip().lower(), head.strip().lower())
    given = {key.strip().lower(): value.strip().strip('"') for key, _, value in (part.partition("=") for part in rest)}
    rate, channels = _whole(given.get("rate"), FASTEST), _whole(given.get("channels", "1"), MOST_CHANNELS)
    if media_type in ("audio/pcm", "audio/l16") and rate and channels:
        return media_type, Pcm(rate, channels)
    return media_type, None


def _whole(text: str | None, most: int) -> int | None:
    """A whole number from 1 to `most`."""
    return int(text) if text and text.isascii() and text.isdigit() and 0 < int(text[:9]) <= most else None


def recognise_among(formats: Sequence[Format], media: Media) -> Facts:
    """The facts of `media`, from its bytes first, their structure next, and the declared type last.

    MediaRejected where there are no bytes, nobody knows them, or they are not what they are declared to be.
    """
    declared, pcm = parse_media_type(media.media_type)
    claimed = Media(media.data, declared, media.name, media.pcm or pcm)
    if not media.data:
        raise MediaRejected("There are no bytes.", hint="Send the whole file.")
    found = next((form for form in formats if form.sniff is not None and form.sniff(media.data)), None)
    if found is None:
        found = _unsigned(formats, declared, media.name)
    elif declared not in UNDECLARED and declared != found.media_type and not _is_text_of(found, declared):
        raise _disagreement(declared, found.media_type)
    if found is None:
        raise _disagreement(declared, None)
    return found.inspect(claimed)


def _unsigned(formats: Sequence[Format], declared: str, name: str) -> Format | None:
    """A format without a signature: the declared one, else by the name's ending, else plain text."""
    unsigned = {form.media_type: form for form in formats if form.sniff is None}
    if declared not in UNDECLARED:
        return unsigned.get(declared)
    ending = name.rsplit(".", 1)[-1].lower() if "." in name else ""
    texts = [form for form in unsigned.values() if form.kind is Kind.TEXT]
    named = next((form for form in texts if ending in (form.extension, *form.endings)), None)
    signed = {end for form in formats if form.sniff is not None for end in (form.extension, *form.endings)}
    return named or (None if ending in signed else unsigned.get("text/plain"))


def _is_text_of(found: Format, declared: str) -> bool:
    """Whether a sniffed text may pass as the plain text that it is declared to be."""
    return found.kind is Kind.TEXT and declared == "text/plain"


def _disagreement(declared: str, found: str | None) -> MediaRejected:
    known = f"The bytes are {found}" if found else "The bytes are of no known media type"
    claim = f", and not {declared[:80]} as declared" if declared not in UNDECLARED else ""
    return MediaRejected(f"{known}{claim}.", hint="What the bytes are counts, not the name or the declared type.")
