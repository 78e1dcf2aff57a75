"""A mask that says where a picture may change, in the two ways that providers read one."""

from __future__ import annotations

from PIL import Image, ImageOps

from ..errors import InvalidArgument, JsonObject
from .pillow import changeable, encoded, opened, upright


def clear_mask(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """From a mask and the picture that it is for: a PNG that is white and clear where it may change, else black and full.

    In a mask with transparency what is painted may change, in one without what is light. InvalidArgument where mask and
    picture differ in size.
    """
    mask, picture = changeable(opened(blobs[0])), upright(opened(blobs[1]))
    if mask.size != picture.size:
        raise InvalidArgument(
            f"The mask has {mask.width} x {mask.height} pixels, its picture {picture.width} x {picture.height}.",
            hint="Give a mask of the picture's own size.",
        )
    return {}, (encoded(Image.merge("RGBA", [mask, mask, mask, ImageOps.invert(mask)]), "png"),)
