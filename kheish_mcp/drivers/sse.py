"""Event streams: the events in bytes that come in parts of any size. Pure; the format is WHATWG's text/event-stream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .refusals import malformed

LINE_END: Final = re.compile(rb"\r\n|\r|\n")
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# A picture or a song is one line of several MB.
LONGEST_LINE: Final = 48 << 20
LARGEST_STREAM: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """One event: the lines of its data joined by line feeds, UTF-8 as it came, and its type where it named one."""

    data: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class Comment:
    """A line that says nothing but that somebody is there."""

    text: str


class Reader:
    """Takes a stream in parts and gives what each part completes; how it was cut makes no difference.

    Unavailable past `longest` bytes of one line, or `largest` of all.
    """

    def __init__(self, *, longest: int = LONGEST_LINE, largest: int = LARGEST_STREAM) -> None:
        self._longest, self._largest = longest, largest
        self._read = 0
        self._line = bytearray()
        self._first, self._after_cr = True, False
        self._data: list[bytes] = []
        self._name = ""

    def feed(self, part: bytes) -> Iterator[Event | Comment]:
        """What `part` completes, in order. An event whose blank line never comes is none, as the format has it."""
        if not part:
            return
        self._read += len(part)
        # A CR ends a line at once; a LF that comes right behind it, in the next part, is of the same end.
        unread, self._after_cr = part.removeprefix(b"\n") if self._after_cr else part, part.endswith(b"\r")
        *ended, rest = LINE_END.split(unread)
        for piece in ended:
            self._extend(piece)
            yield from self._ended()
        self._extend(rest)

    def _extend(self, piece: bytes) -> None:
        self._line += piece
        if len(self._line) > self._longest or self._read > self._largest:
            largest = min(self._longest, self._largest) / (1 << 20)
            raise malformed(f"The provider's stream is larger than {largest:g} MiB.")

    def _ended(self) -> Iterator[Event | Comment]:
        """What the line that just ended completes, if anything."""
        line = bytes(self._line).removeprefix(BYTE_ORDER_MARK) if self._first else bytes(self._line)
        self._line, self._first = bytearray(), False
        if not line:
            yield from self._dispatched()
            return
        field, _, value = line.partition(b":")
        if not field:
            yield Comment(_text(value).strip())
        elif field == b"data":
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = _text(value.removeprefix(b" "))

    def _dispatched(self) -> Iterator[Event]:
        """The event that a blank line ends; none where no data came."""
        if self._data:
            yield Event(b"\n".join(self._data), self._name)
        self._data, self._name = [], ""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
