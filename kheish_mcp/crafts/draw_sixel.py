"""A picture as the sixels that some terminals draw."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from PIL import Image

from ..errors import JsonObject
from .pillow import flat, opened, plain, upright

BAND: Final = 6  # rows that one line of sixels holds
COLORS: Final = 64
RUN: Final = re.compile(rb"(.)\1{3,}", re.DOTALL)


def draw_sixel(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """An escape sequence in ASCII that draws the picture, on white, at most `max_px` wide and high.

    Sixels as in DEC's VT340 manual: https://vt100.net/docs/vt3xx-gp/chapter14.html (read 2026-11-25).
    """
    side = int(str(parameters.get("max_px", 640)))
    picture = flat(upright(plain(opened(blobs[0]))))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    painted = picture.quantize(COLORS)
    drawn = b"".join((b'\x1bP0;1;0q"1;1;%d;%d' % painted.size, *_palette(painted), *_bands(painted), b"\x1b\\"))
    return {"width": painted.width, "height": painted.height}, (drawn,)


def _palette(painted: Image.Image) -> Iterator[bytes]:
    """Each colour's number and its parts in per cent."""
    values = painted.getpalette() or []
    for number in range(len(values) // 3):
        red, green, blue = (round(value * 100 / 255) for value in values[3 * number : 3 * number + 3])
        yield b"#%d;2;%d;%d;%d" % (number, red, green, blue)


def _bands(painted: Image.Image) -> Iterator[bytes]:
    """Six rows at a time, one colour over the other."""
    width, pixels = painted.width, painted.tobytes()
    rows = [pixels[start : start + width] for start in range(0, len(pixels), width)]
    for top in range(0, len(rows), BAND):
        band = rows[top : top + BAND]
        layers = [b"#%d%s" % (color, _layer(band, color)) for color in sorted(set(b"".join(band)))]
        yield b"$".join(layers) + b"-"


def _layer(band: list[bytes], color: int) -> bytes:
    """One colour's sixels of a band: a column's six bits above 63, equal ones in a row counted."""
    bits = [row.translate(bytes(color) + bytes([1 << n]) + bytes(255 - color)) for n, row in enumerate(band)]
    sixels = bytes(63 + sum(column) for column in zip(*bits, strict=True))
    return RUN.sub(lambda run: b"!%d%s" % (len(run[0]), run[1]), sixels)
