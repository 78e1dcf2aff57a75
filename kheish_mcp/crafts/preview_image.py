"""A small picture of a picture."""

from __future__ import annotations

from PIL import Image, ImageOps

from ..errors import JsonObject
from .pillow import encoded, flat, opened

QUALITIES = (85, 70, 50, 30)


def preview_image(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """A JPEG (WebP where transparency matters) of at most `max_px` a side and `max_bytes`; media_type in the facts."""
    facts, preview = shrunk(opened(blobs[0]), parameters)
    return facts, (preview,)


def shrunk(picture: Image.Image, parameters: JsonObject) -> tuple[JsonObject, bytes]:
    """The preview of a decoded picture: upright, without metadata, as good as fits."""
    side, most = int(str(parameters.get("max_px", 1024))), int(str(parameters.get("max_bytes", 150_000)))
    small = ImageOps.exif_transpose(picture)
    small = small.convert("RGBA") if _is_clear(small) else flat(small)
    while True:
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        form = "webp" if small.mode == "RGBA" else "jpeg"
        for quality in QUALITIES:
            data = encoded(small, form, quality)
            if len(data) <= most or side <= 64:
                return {
                    "media_type": f"image/{form}",
                    "preview_width": small.width,
                    "preview_height": small.height,
                }, data
        side = side * 3 // 4


def _is_clear(picture: Image.Image) -> bool:
    """Whether anything shines through; an alpha channel that is full says nothing."""
    if not picture.has_transparency_data:
        return False
    lowest, _ = picture.convert("RGBA").getchannel("A").getextrema()
    return isinstance(lowest, int) and lowest < 255
