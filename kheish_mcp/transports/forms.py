"""A form with one file in it, read as it comes."""

from __future__ import annotations

from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ..errors import InvalidArgument

OVERHEAD: Final = 64 << 10
MOST_PARTS: Final = 64  # two million empty ones kept the loop busy for 25 s
HOW: Final = "Send a form with one field `file`, or the bytes themselves with ?name= and their Content-Type."


class Form:
    """Reads a multipart/form-data body piece by piece: what it gives of each is the file's, and nothing is kept.

    InvalidArgument for a body that is no such form, ends too early, or holds no file or several.
    """

    def __init__(self, content_type: str) -> None:
        self.name = ""
        self.media_type = ""
        self._found = self._parts = 0
        self._is_over = False
        self._in_file = False
        self._key, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_header_field": lambda data, start, end: self._key.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_part,
                    "on_part_data": self._take_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise InvalidArgument("The form's boundary is too long.", hint=HOW) from None

    def take(self, piece: bytes) -> bytes:
        """What of the file is in one more piece of the body."""
        try:
            self._parser.write(piece)
        except FormParserError:
            raise InvalidArgument("The form cannot be read.", hint=HOW) from None
        if self._found > 1:
            raise InvalidArgument("The form holds several files.", hint=HOW)
        if self._parts > MOST_PARTS:
            raise InvalidArgument(f"The form has more than {MOST_PARTS} parts.", hint=HOW)
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken

    def finish(self) -> None:
        """The body has ended."""
        if not self._is_over:
            raise InvalidArgument("The form ends too early.", hint=HOW)
        if not self._found:
            raise InvalidArgument("The form holds no field `file`.", hint=HOW)

    def _end_header(self) -> None:
        self._headers[bytes(self._key).lower()] = bytes(self._value)
        self._key.clear()
        self._value.clear()

    def _begin_part(self) -> None:
        self._parts += 1
        options = parse_options_header(self._headers.get(b"content-disposition"))[1]
        self._in_file = options.get(b"name") == b"file"
        if self._in_file:
            self._found += 1
            self.name = options.get(b"filename", b"").decode("utf-8", "replace")
            self.media_type = self._headers.get(b"content-type", b"").decode("latin-1")
        self._headers = {}

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])

    def _end_part(self) -> None:
        self._in_file = False

    def _end(self) -> None:
        self._is_over = True


def media_type_of(content_type: str) -> str:
    """The type of a Content-Type, without its parameters."""
    return content_type.partition(";")[0].strip().lower()
