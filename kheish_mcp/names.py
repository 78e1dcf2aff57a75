"""Names and labels that hide nothing, made of whatever a stranger wrote."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import Final

LONGEST, LONGEST_BYTES = 120, 240
# Control, format (bidi, zero width, tags), surrogate, private and unassigned characters; line separators.
HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
ENDING: Final = re.compile(r"\.(?=[^.]*[A-Za-z])[A-Za-z0-9]{1,5}$")
UNFIT: Final = re.compile(r'[<>:"|?*]')


def plain(text: str) -> str:
    """The text in NFC, without what does not show or shows elsewhere."""
    shown = "".join(character for character in text if unicodedata.category(character) not in HIDDEN)
    return unicodedata.normalize("NFC", shown)


def file_name(name: str, default: str, extension: str, also: Collection[str] = ()) -> str:
    """A name that any system takes: no folder, at most 120 characters and 240 bytes, with the ending that is true.

    An ending that `name` has gives way (`cat.jpg` with PNG bytes: `cat.png`; `v1.2`: `v1.2.png`), unless it is one of
    `also`, which are as true; `default` is the stem where nothing is left of `name`.
    """
    bare = plain(name).replace("\\", "/").rsplit("/", 1)[-1].strip(". ")
    stem, own = ENDING.sub("", bare), bare.rpartition(".")[2].lower()
    extension = own if own in also and stem != bare else extension
    room = len(extension) + 1
    stem = UNFIT.sub("_", stem)[: LONGEST - room].encode()[: LONGEST_BYTES - room].decode(errors="ignore").strip(". ")
    return f"{stem or default}.{extension}"
