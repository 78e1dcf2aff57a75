"""Pillow with its doors closed: four formats, a bound on pixels, every warning an error."""

from __future__ import annotations

import io
import warnings
from typing import Final

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from ..errors import KheishError, MediaRejected, ResourceExhausted

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
MOST_PIXELS: Final = 100_000_000
MOST_FRAMES: Final = 200

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
    except (KheishError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise MediaRejected(
            "The bytes are no picture that is known here.", hint="Send PNG, JPEG, WebP or GIF."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ResourceExhausted(
            "The picture has too many pixels.", hint=f"At most {MOST_PIXELS // 1_000_000} megapixels."
        ) from None
    except Exception:  # the decoders raise whatever the bytes lead them to
        raise MediaRejected("The picture is damaged or cut short.", hint="Send the whole file.") from None
    return picture


def plain(picture: Image.Image) -> Image.Image:
    """The picture in 8 bits a channel: RGBA where something shines through, RGB elsewhere."""
    if picture.mode.startswith("I;16"):
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    clear = picture.convert("RGBA")
    lowest, _ = clear.getchannel("A").getextrema()
    return clear if isinstance(lowest, int) and lowest < 255 else clear.convert("RGB")


def upright(picture: Image.Image) -> Image.Image:
    """The picture as its camera was held, where its metadata can be read."""
    try:
        return ImageOps.exif_transpose(picture)
    except MemoryError:
        raise
    except Exception:  # metadata is a stranger's as well
        return picture


def changeable(mask: Image.Image) -> Image.Image:
    """Where a mask lets its picture change, as one band: where it is painted if it is transparent, else where it is light."""
    mask = plain(upright(mask))
    return mask.getchannel("A") if mask.mode == "RGBA" else mask.convert("L")


def encoded(picture: Image.Image, form: str, quality: int = 90) -> bytes:
    """The picture in a format, without any metadata; JPEG gets white where it was transparent."""
    out = io.BytesIO()
    bare = picture.copy()
    bare.info.clear()
    if form == "jpeg":
        flat(bare).save(out, "JPEG", quality=quality, optimize=True)
    elif form == "webp":
        bare.save(out, "WEBP", quality=quality)
    else:
        bare.save(out, "PNG", optimize=False)
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
