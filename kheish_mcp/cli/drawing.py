"""Small pictures drawn in terminals that can: kitty's protocol, iTerm2's, and sixels."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ..errors import JsonObject

COLUMNS: Final = 40
CHUNK: Final = 4096  # of base64; kitty takes no more in one escape sequence
LARGEST_PX: Final = 640


@dataclass(frozen=True, slots=True)
class Drawer:
    """How a terminal draws: the craft that makes a picture ready, with its parameters for a width, and what is written."""

    craft: str
    parameters: Callable[[int], JsonObject]
    written: Callable[[bytes], str]


def kitty(png: bytes) -> str:
    """A PNG by kitty's graphics protocol, https://sw.kovidgoyal.net/kitty/graphics-protocol (read 2026-11-25)."""
    text = base64.b64encode(png).decode("ascii")
    chunks = [text[at : at + CHUNK] for at in range(0, len(text), CHUNK)]
    heads = [f"a=T,f=100,q=2,c={COLUMNS},", *[""] * (len(chunks) - 1)]
    more = [1] * (len(chunks) - 1) + [0]
    return "".join(f"\x1b_G{head}m={flag};{chunk}\x1b\\" for head, flag, chunk in zip(heads, more, chunks, strict=True))


def iterm(png: bytes) -> str:
    """A PNG by iTerm2's protocol, https://iterm2.com/documentation-images.html (read 2026-11-25)."""
    text = base64.b64encode(png).decode("ascii")
    return f"\x1b]1337;File=inline=1;size={len(png)};width={COLUMNS};preserveAspectRatio=1:{text}\x07"


def _resized(width: int) -> JsonObject:
    return {"prompt": f"resize {width}"}


KITTY: Final = Drawer("edit_image", _resized, kitty)
ITERM: Final = Drawer("edit_image", _resized, iterm)
SIXEL: Final = Drawer("draw_sixel", lambda width: {"max_px": width}, lambda drawn: drawn.decode("ascii"))
# By TERM_PROGRAM, which these set; WezTerm speaks all three, and iTerm2's by default.
PROGRAMS: Final[Mapping[str, Drawer]] = {
    "iTerm.app": ITERM, "WezTerm": ITERM, "ghostty": KITTY, "kitty": KITTY, "mintty": SIXEL, "contour": SIXEL,
}  # fmt: skip
# By TERM, for those that set nothing else.
TERMS: Final[Mapping[str, Drawer]] = {
    "xterm-kitty": KITTY, "xterm-ghostty": KITTY, "foot": SIXEL, "foot-extra": SIXEL, "mlterm": SIXEL, "contour": SIXEL,
}  # fmt: skip


def drawer_of(environment: Mapping[str, str]) -> Drawer | None:
    """How this terminal draws; None where it cannot, or where a multiplexer in between would swallow it."""
    if environment.get("TMUX") or environment.get("TERM", "").startswith(("screen", "tmux")):
        return None
    if environment.get("KITTY_WINDOW_ID"):
        return KITTY
    return TERMS.get(environment.get("TERM", "")) or PROGRAMS.get(environment.get("TERM_PROGRAM", ""))
