"""A long text in pieces that can be spoken one by one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

# The best place to cut first: between paragraphs, behind a sentence, behind a clause, between words.
CUTS: Final = (
    re.compile(r"\n\s*\n"),
    re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|(?<=[。！？])[」』”]?"),
    re.compile(r"(?<=[,;:—])\s+|(?<=[、，；：])"),
    re.compile(r"\s+"),
)
ABBREVIATION: Final = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|No|vs|etc|e\.g|i\.e|z\.B|d\.h|bzw|ca|Nr|[A-Z])\.\s*$"
)
JOINER: Final = "\u200d"


def split_speech(text: str, longest: int) -> tuple[str, ...]:
    """Pieces of at most `longest` characters that together are the text; cut where a speaker would take a breath."""
    pieces = []
    rest = text
    while len(rest) > longest:
        cut = _cut(rest, longest)
        pieces.append(rest[:cut])
        rest = rest[cut:]
    return (*[piece for piece in pieces if piece.strip()], *([rest] if rest.strip() or not pieces else []))


def _cut(text: str, longest: int) -> int:
    """Where the first piece ends: the last good place within reach, of the best kind that there is."""
    window = text[: longest + 1]
    for kind in CUTS:
        places = [end for end in _ends(kind, window) if 0 < end <= longest]
        # A cut right at the start would make a piece of two words; the next kind does better.
        if places and places[-1] >= longest // 4:
            return places[-1]
    return _between_graphemes(text, longest)


def _ends(kind: re.Pattern[str], window: str) -> Iterator[int]:
    for match in kind.finditer(window):
        if not (kind is CUTS[1] and ABBREVIATION.search(window[: match.start() + 1].rstrip() + " ")):
            yield match.end()


def _between_graphemes(text: str, place: int) -> int:
    """The last place up to `place` that tears no letter from its marks."""
    cut = place
    while cut > 1 and (
        unicodedata.combining(text[cut]) or JOINER in text[cut - 1 : cut + 1] or "\ufe00" <= text[cut] <= "\ufe0f"
    ):
        cut -= 1
    return cut if cut > 1 else place
