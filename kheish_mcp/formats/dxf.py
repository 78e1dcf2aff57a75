"""DXF: a drawing as pairs of lines, a group code and a value; or the same in binary."""

from __future__ import annotations

import re

from ..media import Facts, Kind, Media
from .base import Format, broken

PAIRS = re.compile(rb"(?:\xef\xbb\xbf)?(?>[ \t]*-?\d{1,5}[ \t]*\r?\n[^\n\0]*(?:\n|\Z))*+\s*")
START = re.compile(rb"(?:\xef\xbb\xbf)?(?>[ \t]*999[ \t]*\r?\n[^\n]*\n)*+[ \t]*0[ \t]*\r?\n[ \t]*SECTION[ \t]*\r?\n")
END = re.compile(rb"(?:\A|\n)[ \t]*0[ \t]*\r?\n[ \t]*EOF\s*\Z")
BINARY, BINARY_END = b"AutoCAD Binary DXF\r\n\x1a\0", b"\0EOF\0"
LONGEST_START = 1 << 16


def inspect(media: Media) -> Facts:
    """Walks every pair to the end mark; of a binary drawing only the ends are looked at."""
    data = media.data
    if data.startswith(BINARY):
        if not data.endswith(BINARY_END):
            raise broken("DXF", "it has no end")
        return DXF.facts()
    if END.search(data[-64:]) is None or PAIRS.fullmatch(data) is None:
        raise broken("DXF", "its pairs do not reach the end")
    return DXF.facts()


def sniff(data: bytes) -> bool:
    """A first section, behind comments; or the mark of the binary kind."""
    return data.startswith(BINARY) or START.match(data[:LONGEST_START]) is not None


DXF = Format("application/dxf", Kind.DOCUMENT, "dxf", inspect, sniff, textual=True)
