"""A long text in pieces that can be spoken one by one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

SENTENCE: Final = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|(?<=[。！？])[」』”]?")
# The best place to cut first: between paragraphs, behind a sentence, behind a clause, between words.
CUTS: Final = (
    re.compile(r"\n\s*\n"),
    SENTENCE,
    re.compile(r"(?<=[,;:—])\s+|(?<=[、，；：])"),
    re.compile(r"\s+"),
)
ABBREVIATION: Final = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Rev|Hon|Capt|Col|Gen|Lt|Sgt|Gov|Sen|Rep|No|vs|etc|approx|Fig|Vol|Inc|Ltd|Co|Corp"
    r"|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec|e\.g|i\.e|a\.m|p\.m|cf|z\.B|d\.h|u\.a|bzw|ca|Nr|Hr|Fr|usw|Str|Abs|[A-Z])\.\Z"
)
LONGEST_ABBREVIATION: Final = 8
# What belongs to the character before it beside the marks of category M: joiners, skin tones, tags, vowels and
# finals of Hangul; and what draws the next one to itself: a joiner, initials of Hangul.
ATTACHED: Final = re.compile("[\u200c\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\u1160-\u11ff\ud7b0-\ud7fb]")
BINDING: Final = re.compile("[\u200d\u1100-\u115f\ua960-\ua97c]")
HALF_FLAG: Final = re.compile("[\U0001f1e6-\U0001f1ff]")
HALF_FLAGS: Final = re.compile(f"(?<!{HALF_FLAG.pattern}){HALF_FLAG.pattern}*+\\Z")
VIRAMA: Final = 9


def split_speech(text: str, longest: int) -> tuple[str, ...]:
    """Pieces of at most `longest` characters, cut where a speaker would take a breath, and within no letter.

    Together they are the text, but for white space that fits nowhere: at the end, and of runs longer than half a piece.
    """
    pieces, rest = list[str](), text
    while len(rest) > longest:
        blank = len(rest) - len(rest.lstrip())
        if blank > longest // 2:
            rest = rest[blank - 1 :]
            continue
        cut = _cut(rest, longest)
        pieces.append(rest[:cut])
        rest = rest[cut:]
    if rest.strip() or not pieces:
        return (*pieces, rest)
    if len(pieces[-1]) + len(rest) <= longest:
        pieces[-1] += rest
    return tuple(pieces)


def _cut(text: str, longest: int) -> int:
    """Where the first piece ends: the last good place within reach, of the best kind that there is."""
    window = text[: longest + 1]
    first = len(window) - len(window.lstrip())
    for kind in CUTS:
        places = [end for end in _ends(kind, window) if first < end <= longest and not _tears(text, end)]
        # A cut right at the start would make a piece of two words; the next kind does better.
        if places and places[-1] >= longest // 4:
            return places[-1]
    whole = (cut for cut in range(longest, first, -1) if not _tears(text, cut))
    return next(whole, longest)


def _ends(kind: re.Pattern[str], window: str) -> Iterator[int]:
    for match in kind.finditer(window):
        stop = match.start()
        if kind is not SENTENCE or ABBREVIATION.search(window, max(0, stop - LONGEST_ABBREVIATION), stop) is None:
            yield match.end()


def _tears(text: str, place: int) -> bool:
    """Whether a cut at `place` would tear a letter from its marks, an emoji or a syllable in parts, or a flag in two."""
    before, after = text[place - 1], text[place]
    if unicodedata.category(after)[0] == "M" or ATTACHED.match(after) or BINDING.match(before):
        return True
    if unicodedata.combining(before) == VIRAMA or before + after == "\r\n":
        return True
    if not HALF_FLAG.match(after):
        return False
    behind = HALF_FLAGS.search(text, 0, place)
    return behind is not None and len(behind[0]) % 2 == 1
