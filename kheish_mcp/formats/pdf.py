"""PDF: recognised by its first line and its last, kept as it is."""

from __future__ import annotations

import re

from ..media import Facts, Kind, Media
from .base import Format, broken

FIRST = re.compile(rb"%PDF-[12]\.\d")
LAST = re.compile(rb"startxref\s{1,4}\d{1,12}\s{1,4}%%EOF")
TAIL = 2048


def inspect(media: Media) -> Facts:
    """Looks for the version, and for the position of the table and the end mark that stand last."""
    if FIRST.match(media.data) is None:
        raise broken("PDF", "its version is unknown")
    if LAST.search(media.data[-TAIL:]) is None:
        raise broken("PDF", "it has no end")
    return PDF.facts()


PDF = Format("application/pdf", Kind.DOCUMENT, "pdf", inspect, lambda data: data.startswith(b"%PDF-"))
