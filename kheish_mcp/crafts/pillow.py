"""Pillow with its doors closed: four formats, a bound on pixels, every warning an error."""

from __future__ import annotations

import io
import warnings
from typing import Final

from PIL import Image, ImageFile, UnidentifiedImageError

from ..errors import MediaRejected, ResourceExhausted

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
MOST_PIXELS: Final = 100_000_000
MOST_FRAMES: Final = 200
ENDINGS: Final = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}

Image.MAX_IMAGE_PIXELS = MOST_PIXELS
ImageFile.LOAD_TRUNCATED_IMAGES = False
warnings.simplefilter("error", Image.DecompressionBombWarning)


def opened(data: bytes) -> Image.Image:
    """A picture that is decoded to its last pixel; MediaRejected where it is not, ResourceExhausted where too large."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > MOST_PIXELS:
            raise _too_large(picture.width, picture.height)
        picture.load()
    except UnidentifiedImageError:
        raise MediaRejected(
            "The bytes are no picture that is known here.", hint="Send PNG, JPEG, WebP or GIF."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ResourceExhausted(
            "The picture has too many pixels.", hint=f"At most {MOST_PIXELS // 1_000_000} megapixels."
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError):
        raise MediaRejected("The picture is damaged or cut short.", hint="Send the whole file.") from None
    return picture


def encoded(picture: Image.Image, form: str, quality: int = 90) -> bytes:
    """The picture in a format, without any metadata; JPEG gets white where it was transparent."""
    out = io.BytesIO()
    if form == "jpeg":
        flat(picture).save(out, "JPEG", quality=quality, optimize=True)
    elif form == "webp":
        picture.save(out, "WEBP", quality=quality)
    else:
        picture.save(out, "PNG", optimize=False)
    return out.getvalue()


def flat(picture: Image.Image) -> Image.Image:
    """The picture on white."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    clear = picture.convert("RGBA")
    ground = Image.new("RGBA", clear.size, "white")
    ground.alpha_composite(clear)
    return ground.convert("RGB")


def _too_large(width: int, height: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"{width} x {height} pixels are too many.", hint=f"At most {MOST_PIXELS // 1_000_000} megapixels."
    )
