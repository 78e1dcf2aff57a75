"""Exact edits as short instructions: `crop 10,10,400,300; resize 512; text "Hi" at 20,40`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from ..errors import InvalidArgument

# Every repetition keeps what it took: a prompt of a megabyte is read once, whatever stands in it.
WORDS: Final = r'"(?:[^"\\]|\\.)*+"'
PIECE: Final = re.compile(rf'((?:{WORDS}|[^;"\n])*+)(?:[;\n]|\Z)', re.DOTALL)
COLOR: Final = r"#[0-9a-fA-F]{3,8}|[a-zA-Z]{3,20}|rgba?\([0-9.,\x20]{5,40}\)"
NUMBER: Final = r"(?:[0-9]{1,6}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})"
MOST: Final = 50


@dataclass(frozen=True, slots=True)
class Operation:
    """One instruction: its name, and its arguments as text by name (None where left out)."""

    name: str
    arguments: Mapping[str, str | None]

    def number(self, key: str, default: float = 0.0) -> float:
        """An argument as a number."""
        value = self.arguments.get(key)
        return float(value) if value is not None else default

    def whole(self, key: str, default: int = 0) -> int:
        """An argument as a whole number."""
        return round(self.number(key, default))

    def text(self, key: str, default: str = "") -> str:
        """An argument as text."""
        return self.arguments.get(key) or default


@dataclass(frozen=True, slots=True)
class Grammar:
    """How one operation is written: an example for people, a pattern for the rest of the line."""

    example: str
    pattern: re.Pattern[str]


def _rule(example: str, pattern: str) -> Grammar:
    return Grammar(example, re.compile(pattern.replace(" ", r"\s*+"), re.IGNORECASE | re.DOTALL))


GRAMMAR: Final[dict[str, Grammar]] = {
    "crop": _rule("crop 10,10,400,300", r"(?P<x>\d{1,5}) , (?P<y>\d{1,5}) , (?P<width>\d{1,5}) , (?P<height>\d{1,5})"),
    "resize": _rule("resize 512x384 fit", r"(?P<width>\d{1,5})( x (?P<height>\d{1,5}))? (?P<mode>fit|fill|exact)?"),
    "rotate": _rule("rotate 90", rf"(?P<degrees>-?{NUMBER})"),
    "flip": _rule("flip horizontal", r"(?P<axis>horizontal|vertical)"),
    "grayscale": _rule("grayscale", r""),
    "autocontrast": _rule("autocontrast", r""),
    "blur": _rule("blur 3", rf"(?P<amount>{NUMBER})"),
    "sharpen": _rule("sharpen 2", rf"(?P<amount>{NUMBER})?"),
    "brightness": _rule("brightness 1.2", rf"(?P<amount>{NUMBER})"),
    "contrast": _rule("contrast 1.2", rf"(?P<amount>{NUMBER})"),
    "saturation": _rule("saturation 0.5", rf"(?P<amount>{NUMBER})"),
    "pad": _rule("pad 20 white", rf"(?P<amount>\d{{1,4}}) (?P<color>{COLOR})?"),
    "background": _rule("background white", rf"(?P<color>{COLOR})"),
    "text": _rule(
        'text "Hi" at 20,40 size 32 color red',
        rf"(?P<words>{WORDS}) at (?P<x>-?\d{{1,5}}) , (?P<y>-?\d{{1,5}})"
        rf" (size (?P<size>\d{{1,3}}))? (color (?P<color>{COLOR}))?",
    ),
    "overlay": _rule(
        "overlay 2 at 10,10 64x64",
        r"(?P<which>\d{1,2}) at (?P<x>-?\d{1,5}) , (?P<y>-?\d{1,5}) ((?P<width>\d{1,5}) x (?P<height>\d{1,5}))?",
    ),
}
EXAMPLES: Final = "; ".join(grammar.example for grammar in GRAMMAR.values())
TEACHING: Final = (
    "This route edits by exact operations and cannot follow a description. Write for example: "
    'crop 10,10,400,300; resize 512; text "Hi" at 20,40.'
)


def parse_operations(text: str) -> tuple[Operation, ...]:
    """The operations in order; InvalidArgument names the position, the operation, and the nearest that there is."""
    operations: list[Operation] = []
    place = 0
    while place < len(text):
        match = PIECE.match(text, place)
        if match is None or match.end() == place:
            raise InvalidArgument(
                f"At character {place + 1} a quotation mark is not closed.", hint=f"Operations: {EXAMPLES}."
            )
        if match[1].strip():
            operations.append(_operation(match[1].strip(), len(operations) + 1))
        place = match.end()
    if not operations:
        raise InvalidArgument("There is no operation in the prompt.", hint=f"Operations: {EXAMPLES}.")
    if len(operations) > MOST:
        raise InvalidArgument(f"{len(operations)} operations are more than {MOST}.", hint="Split the edit in two.")
    return tuple(operations)


def _operation(piece: str, number: int) -> Operation:
    name, rest = (*piece.split(maxsplit=1), "")[:2]
    grammar = GRAMMAR.get(name.lower())
    if grammar is None:
        near = get_close_matches(name.lower(), GRAMMAR, 1)
        if near and len(name) <= 20:
            raise InvalidArgument(f"Operation {number}: there is no {name.lower()!r}.", hint=f"Did you mean {near[0]}?")
        raise InvalidArgument(TEACHING, hint=f"Operations: {EXAMPLES}.")
    match = grammar.pattern.fullmatch(rest.strip())
    if match is None:
        raise InvalidArgument(
            f"Operation {number}: {name.lower()} is written otherwise.", hint=f"So: {grammar.example}."
        )
    return Operation(name.lower(), match.groupdict())


def unquoted(words: str) -> str:
    """A text between quotation marks, its escapes undone: \\n is a new line."""
    return re.sub(r"\\(.)", lambda escaped: "\n" if escaped[1] == "n" else escaped[1], words[1:-1], flags=re.DOTALL)
