"""A mask that says where a picture may change, in the two ways that providers read one."""

from __future__ import annotations

from PIL import Image, ImageOps

from ..errors import InvalidArgument, JsonObject
from .pillow import encoded, opened


def clear_mask(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """From a mask and the picture that it is for: a PNG that is white and clear where it may change, else black and full.

    In a mask with transparency what is painted may change, in one without what is light. InvalidArgument where mask and
    picture differ in size.
    """
    mask, picture = opened(blobs[0]), ImageOps.exif_transpose(opened(blobs[1]))
    if mask.size != picture.size:
        raise InvalidArgument(
            f"The mask has {mask.width} x {mask.height} pixels, its picture {picture.width} x {picture.height}.",
            hint="Give a mask of the picture's own size.",
        )
    light = mask.convert("L")
    painted = mask.convert("RGBA").getchannel("A")
    open_to_change = light if painted.getextrema() == (255, 255) else painted
    bands = [open_to_change, open_to_change, open_to_change, ImageOps.invert(open_to_change)]
    return {}, (encoded(Image.merge("RGBA", bands), "png"),)
