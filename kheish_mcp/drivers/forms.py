"""A multipart form, as RFC 7578 has it; pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """One field: a text, or a file where it has a name. Names are this program's own, and plain ASCII."""

    name: str
    content: bytes
    file_name: str = ""
    media_type: str = ""


def text(name: str, value: str) -> Field:
    """A text field."""
    return Field(name, value.encode("utf-8", "replace"))


def encode_form(fields: Iterable[Field], boundary: str) -> bytes:
    """The body; `boundary` is a text that stands in none of the fields, which a long random one does not."""
    parts: list[bytes] = []
    for field in fields:
        parts += [f"--{boundary}\r\n{_head(field)}\r\n\r\n".encode("ascii"), field.content, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode("ascii")])


def _head(field: Field) -> str:
    if not field.file_name:
        return f'Content-Disposition: form-data; name="{field.name}"'
    return (
        f'Content-Disposition: form-data; name="{field.name}"; filename="{field.file_name}"\r\n'
        f"Content-Type: {field.media_type}"
    )
