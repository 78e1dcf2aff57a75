"""Where each key stands in a TOML text, since tomllib does not say."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

KeyPath = tuple[str, ...]

BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
KEY: Final = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|("(?:[^"\\\n]|\\.)*")|('[^'\n]*'))[ \t]*(\.?)""")
STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}" + r'|"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'", re.DOTALL
)
SCALAR: Final = re.compile(r"[^,\]}\n#]+")
HEADER: Final = re.compile(r"\[\[?")


def positions(text: str) -> dict[KeyPath, tuple[int, int]]:
    """Line and column (both from 1) of every key and table header by its path; `text` has to be valid TOML."""
    return _Scan(text).run()


class _Scan:
    """One walk over a text; `place` is where it stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.found: dict[KeyPath, tuple[int, int]] = {}

    def run(self) -> dict[KeyPath, tuple[int, int]]:
        table: KeyPath = ()
        self._skip(BLANK)
        while self.place < len(self.text):
            if self._skip(HEADER):
                table = self._key(())
                self._skip(re.compile(r"[ \t]*\]\]?"))
            else:
                self._pair(table)
            self._skip(BLANK)
        return self.found

    def _pair(self, table: KeyPath) -> None:
        path = self._key(table)
        self._skip(re.compile(r"[ \t]*=[ \t]*"))
        self._value(path)

    def _key(self, path: KeyPath) -> KeyPath:
        """Reads a dotted key and notes where each of its parts stands."""
        while match := KEY.match(self.text, self.place):
            group = next(index for index in (1, 2, 3) if match[index] is not None)
            path = (*path, match[group] if group == 1 else _unquoted(match[group]))
            self.found.setdefault(path, self._spot(match.start(group)))
            self.place = match.end()
            if not match[4]:
                break
        return path

    def _value(self, path: KeyPath) -> None:
        opening = self.text[self.place : self.place + 1]
        if opening == "{":
            self._list("}", lambda: self._pair(path))
        elif opening == "[":
            self._list("]", lambda: self._value(path))
        elif not self._skip(STRING):
            self._skip(SCALAR)

    def _list(self, closing: str, item: Callable[[], None]) -> None:
        """Items between brackets, with commas, blanks and comments between them."""
        self.place += 1
        while self.place < len(self.text):
            self._skip(BLANK)
            if self.text[self.place : self.place + 1] == closing:
                self.place += 1
                return
            item()
            self._skip(BLANK)
            self._skip(re.compile(","))

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self.text, self.place)
        if match is None or match.end() == self.place:
            return False
        self.place = match.end()
        return True

    def _spot(self, place: int) -> tuple[int, int]:
        return self.text.count("\n", 0, place) + 1, place - self.text.rfind("\n", 0, place)


def _unquoted(key: str) -> str:
    """The key inside its quotes."""
    import tomllib

    return next(iter(tomllib.loads(f"{key} = 0")))
