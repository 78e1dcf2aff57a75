"""Where each key stands in a TOML text, since tomllib does not say."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

KeyPath = tuple[str, ...]

DEEPEST: Final = 8
BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
HEADER: Final = re.compile(r"\[\[?")
HEADER_END: Final = re.compile(r"\]\]?")
EQUALS: Final = re.compile(r"=[ \t]*")
KEY: Final = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|("(?:[^"\\\n]|\\.)*"|'[^'\n]*'))[ \t]*(\.?)""")
STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}" + r'|"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'", re.DOTALL
)
SCALAR: Final = re.compile(r"[^,\]}\n#]+")
CLOSING: Final = {"{": "}", "[": "]"}


def positions(text: str) -> dict[KeyPath, tuple[int, int]]:
    """Line and column (characters, both from 1) of every key and table header by its path; `text` is valid TOML.

    A part that stands only on the way to others (`a` in `[a.b]`) is where it is seen first. In an array, all items
    share one path and the first is shown. Of longer paths only the first eight parts are noted.
    """
    scan = _Scan(text)
    while scan.step():
        pass
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    lines = {path: bisect_right(starts, place) for path, place in scan.found.items()}
    return {path: (line, scan.found[path] - starts[line - 1] + 1) for path, line in lines.items()}


class _Scan:
    """One walk over a text: `place` is where it stands, `opened` the brackets around it with the key they belong to."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.table: KeyPath = ()
        self.opened: list[tuple[str, KeyPath]] = []
        self.found: dict[KeyPath, int] = {}
        self.named: set[KeyPath] = {()}

    def step(self) -> bool:
        """Reads a header, a pair, an item, a comma or a closing bracket; False at the end, and where nothing fits."""
        self._skip(BLANK)
        before = self.place
        bracket, path = self.opened[-1] if self.opened else ("", self.table)
        here = self.text[before : before + 1]
        if bracket and here in (",", CLOSING[bracket]):
            self.place += 1
            if here != ",":
                self.opened.pop()
        elif bracket == "[":
            self._value(path)
        elif not bracket and self._skip(HEADER):
            self.table = self._key(())
            self._skip(HEADER_END)
        else:
            path = self._key(path)
            self._skip(EQUALS)
            self._value(path)
        return self.place > before

    def _value(self, path: KeyPath) -> None:
        opening = self.text[self.place : self.place + 1]
        if opening in CLOSING:
            self.opened.append((opening, path))
            self.place += 1
        elif not self._skip(STRING):
            self._skip(SCALAR)

    def _key(self, path: KeyPath) -> KeyPath:
        """Reads a dotted key and notes where its parts stand; where the whole is written out beats a mere way to it."""
        start, dot = self.place, "."
        while dot and (match := KEY.match(self.text, self.place)):
            bare, quoted, dot = match.groups()
            self.place = match.end()
            if len(path) < DEEPEST:
                path = (*path, bare or _unquoted(quoted))
                start = match.start(1 if bare else 2)
                self.found.setdefault(path, start)
        if path not in self.named:
            self.named.add(path)
            self.found[path] = start
        return path

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self.text, self.place)
        if match is None or match.end() == self.place:
            return False
        self.place = match.end()
        return True


def _unquoted(key: str) -> str:
    """The key inside its quotes."""
    import tomllib

    return next(iter(tomllib.loads(f"{key} = 0")))
