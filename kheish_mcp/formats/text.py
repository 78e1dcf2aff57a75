"""Texts: strict UTF-8 without control characters; CSV and JSON have to parse, SVG is kept as the text that it is."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable

from ..errors import MediaRejected
from ..media import Facts, Kind, Media
from .base import Format, broken

CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f]")
SVG_ROOT = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<svg[\s>]", re.DOTALL)
DEEPEST = 200


def readable(data: bytes) -> str:
    """The text; MediaRejected where the bytes are none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MediaRejected("The text is not UTF-8.", hint="Save it as UTF-8.") from None
    if CONTROL.search(text):
        raise MediaRejected("The text holds control characters, as only binary files do.", hint="Send a text file.")
    return text


def _plain(text: str) -> None:
    """Any text is plain text."""


def _csv(text: str) -> None:
    try:
        for _ in csv.reader(io.StringIO(text), strict=True):
            pass
    except csv.Error:
        raise broken("CSV", "a row cannot be read") from None


def _json(text: str) -> None:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise broken("JSON", "it cannot be parsed") from None


def _format(
    media_type: str,
    extension: str,
    check: Callable[[str], None],
    sniff: Callable[[bytes], bool] | None = None,
    endings: tuple[str, ...] = (),
) -> Format:
    def inspect(media: Media) -> Facts:
        if not media.data:
            raise MediaRejected("The file is empty.", hint="Send something.")
        check(readable(media.data))
        return form.facts()

    form = Format(media_type, Kind.TEXT, extension, inspect, sniff, endings)
    return form


SVG = _format("image/svg+xml", "svg", _plain, lambda data: SVG_ROOT.match(data[:4096]) is not None)
PLAIN = _format("text/plain", "txt", _plain, endings=("srt", "vtt"))
MARKDOWN = _format("text/markdown", "md", _plain, endings=("markdown",))
CSV = _format("text/csv", "csv", _csv)
JSON = _format("application/json", "json", _json)
