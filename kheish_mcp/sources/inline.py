"""data: URIs, read strictly."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from ..errors import InvalidArgument, ResourceExhausted
from ..media import Media

LONGEST_HEAD: Final = 256
WORD: Final = r"[A-Za-z0-9!#$&^_.+-]+"
HEAD: Final = re.compile(
    rf"data:(?P<type>(?:{WORD}/{WORD})?(?:;{WORD}=(?:{WORD}|\"[^\"\\,;]*\"))*)(?P<base64>;base64)?",
    re.IGNORECASE | re.ASCII,
)
UNWRITABLE: Final = re.compile(r"[^ -~]|#|%(?![0-9A-Fa-f]{2})")


def read_data_uri(uri: str, max_bytes: int) -> Media:
    """The bytes in a data: URI with the media type and parameters it claims, '' if none; no name.

    `data:[TYPE/SUBTYPE][;NAME=VALUE]*[;base64],PAYLOAD`. InvalidArgument for anything looser (white space in base64,
    the URL alphabet, missing padding, raw control characters); ResourceExhausted, before decoding, over `max_bytes`.
    """
    head, comma, payload = uri.partition(",")
    found = HEAD.fullmatch(head) if comma and len(head) <= LONGEST_HEAD else None
    if found is None:
        raise InvalidArgument(
            "The data: URI cannot be read.", hint="Write data:image/png;base64, and then the bytes in base64."
        )
    size = len(payload) * 3 // 4 - payload[-2:].count("=") if found["base64"] else len(payload) - 2 * payload.count("%")
    if size > max_bytes:
        raise ResourceExhausted(f"The data: URI holds more than {max_bytes} bytes.", hint="Use a smaller one.")
    data = _from_base64(payload) if found["base64"] else _from_percent(payload)
    return Media(data, "" if found["type"].startswith(";") else found["type"])


def _from_base64(payload: str) -> bytes:
    try:
        # Needless padding after a whole group is let through even by the strict decoder.
        return base64.b64decode(payload if len(payload) % 4 == 0 else "=", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument(
            "The data: URI's payload is not base64.", hint="Use + and /, pad with =, leave no white space."
        ) from None


def _from_percent(payload: str) -> bytes:
    """The bytes of printable ASCII with %XX; a `#` would begin a fragment, and half of an SVG be lost."""
    if UNWRITABLE.search(payload):
        raise InvalidArgument(
            "The data: URI's payload has characters that no URI has.", hint="Write them as %XX, or use base64."
        )
    return unquote_to_bytes(payload)
