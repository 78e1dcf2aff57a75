"""Texts: strict UTF-8 without control characters; CSV and JSON have to parse, SVG is kept as the text that it is."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator

from ..errors import MediaRejected
from ..media import Facts, Kind, Media
from .base import Format, broken

CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f]")
# Each comment is taken whole or not at all: with plain groups, a row of them would be tried in every grouping.
SVG_ROOT = re.compile(
    rb"\A(?:\xef\xbb\xbf)?\s*+(?>(?:<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*>)\s*+)*+<svg[\s>/]", re.DOTALL
)
LONGEST_PROLOG = 1 << 16
LONGEST_ROW = 1 << 20
# Parsed whole, JSON takes up to twenty times its size; a larger one is only looked at from the outside.
PARSED_WHOLE = 8 << 20


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
    row = 0

    def lines() -> Iterator[str]:
        nonlocal row
        for line in io.StringIO(text, newline=""):
            row += len(line)
            if row > LONGEST_ROW:
                raise broken("CSV", "a row is longer than a million characters")
            yield line

    try:
        for _ in csv.reader(lines(), strict=True):
            row = 0
    except csv.Error:
        raise broken("CSV", "a row cannot be read") from None


def _json(text: str) -> None:
    if len(text) > PARSED_WHOLE:
        bare = text.strip()
        if bare[:1] + bare[-1:] not in ("{}", "[]"):
            raise broken("JSON", "it neither begins nor ends as an object or a list")
        return
    try:
        json.loads(text, parse_constant=_no_number, parse_int=str)
    except (ValueError, RecursionError):
        raise broken("JSON", "it cannot be parsed") from None


def _no_number(name: str) -> None:
    raise ValueError(name)


def _format(
    media_type: str,
    extension: str,
    check: Callable[[str], None],
    sniff: Callable[[bytes], bool] | None = None,
    endings: tuple[str, ...] = (),
) -> Format:
    def inspect(media: Media) -> Facts:
        check(readable(media.data))
        return form.facts()

    form = Format(media_type, Kind.TEXT, extension, inspect, sniff, endings, textual=True)
    return form


SVG = _format("image/svg+xml", "svg", _plain, lambda data: SVG_ROOT.match(data[:LONGEST_PROLOG]) is not None)
PLAIN = _format("text/plain", "txt", _plain, endings=("srt", "vtt"))
MARKDOWN = _format("text/markdown", "md", _plain, endings=("markdown",))
CSV = _format("text/csv", "csv", _csv)
JSON = _format("application/json", "json", _json)
