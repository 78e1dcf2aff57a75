"""A small picture of a picture."""

from __future__ import annotations

from PIL import Image

from ..errors import JsonObject
from .pillow import encoded, opened, plain, upright

QUALITIES = (85, 70, 50, 30)
SMALLEST = 64


def preview_image(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """A JPEG (WebP where transparency matters) of at most `max_px` a side and `max_bytes`; media_type in the facts."""
    facts, preview = shrunk(opened(blobs[0]), parameters)
    return facts, (preview,)


def shrunk(picture: Image.Image, parameters: JsonObject) -> tuple[JsonObject, bytes]:
    """The preview of a decoded picture: upright, without metadata, as good as fits."""
    side, most = int(str(parameters.get("max_px", 1024))), int(str(parameters.get("max_bytes", 150_000)))
    small = plain(picture)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    small = upright(small)
    form = "webp" if small.mode == "RGBA" else "jpeg"
    while True:
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            data = encoded(small, form, quality)
            if len(data) <= most or side <= SMALLEST:
                return {
                    "media_type": f"image/{form}",
                    "preview_width": small.width,
                    "preview_height": small.height,
                }, data
        side = side * 3 // 4
