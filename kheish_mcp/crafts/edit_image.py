"""Exact edit operations, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from ..errors import InvalidArgument, JsonObject, ResourceExhausted
from .operations import Operation, parse_operations, unquoted
from .pillow import changeable, encoded, opened, plain, upright

LARGEST_SIDE: Final = 8192
MOST_PIXELS: Final = 40_000_000
MOST_BLUR, MOST_LETTERS = 200, 1000

Pictures: TypeAlias = list[Image.Image]
Step: TypeAlias = Callable[[Image.Image, Operation, Pictures], Image.Image]


def edit_image(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """The first picture after all operations of `prompt`, as `output_format` (png if left out).

    With `mask` true the last blob is a mask: what is light in it may change, what is dark stays; of one that is
    transparent in places, what is painted may change. A mask needs a result of the same size as the source.
    """
    operations = parse_operations(str(parameters["prompt"]))
    masked = parameters.get("mask") is True
    pictures = [_prepared(blob) for blob in (blobs[:-1] if masked else blobs)]
    source = picture = pictures[0]
    for operation in operations:
        picture = STEPS[operation.name](picture, operation, pictures)
        _check_size(*picture.size)
    if masked:
        picture = _through(changeable(opened(blobs[-1])), picture, source)
    form = str(parameters.get("output_format") or "png")
    return {"width": picture.width, "height": picture.height}, (encoded(plain(picture), form),)


def _prepared(blob: bytes) -> Image.Image:
    """RGBA, upright, of a size that an edit can hold."""
    picture = opened(blob)
    _check_size(*picture.size)
    return upright(plain(picture)).convert("RGBA")


def _check_size(width: int, height: int) -> None:
    if max(width, height) > LARGEST_SIDE or width * height > MOST_PIXELS:
        raise ResourceExhausted(
            f"{width} x {height} pixels are too many for an edit.",
            hint=f"At most {LARGEST_SIDE} a side and {MOST_PIXELS // 1_000_000} megapixels.",
        )


def _through(mask: Image.Image, picture: Image.Image, source: Image.Image) -> Image.Image:
    if not mask.size == picture.size == source.size:
        raise InvalidArgument("Mask, source and result differ in size.", hint="With a mask, keep the size as it is.")
    return Image.composite(picture, source, mask)


def _crop(picture: Image.Image, by: Operation, _: Pictures) -> Image.Image:
    left, top = by.whole("x"), by.whole("y")
    right, bottom = left + by.whole("width"), top + by.whole("height")
    if right > picture.width or bottom > picture.height or right == left or bottom == top:
        raise InvalidArgument(
            f"crop goes beyond the picture, which has {picture.width} x {picture.height} pixels here.",
            hint="crop x,y,width,height.",
        )
    return picture.crop((left, top, right, bottom))


def _resize(picture: Image.Image, by: Operation, _: Pictures) -> Image.Image:
    width = max(1, by.whole("width"))
    height = max(1, by.whole("height", round(picture.height * width / picture.width)))
    _check_size(width, height)
    return RESIZES[by.text("mode", "fit").lower()](picture, (width, height))


def _fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.contain(picture, size, Image.Resampling.LANCZOS)


def _filled(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


def _exact(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture.resize(size, Image.Resampling.LANCZOS)


RESIZES: Final = {"fit": _fitted, "fill": _filled, "exact": _exact}


def _rotate(picture: Image.Image, by: Operation, _: Pictures) -> Image.Image:
    """Clockwise, as people mean it."""
    return picture.rotate(-by.number("degrees"), Image.Resampling.BICUBIC, expand=True)


def _flip(picture: Image.Image, by: Operation, _: Pictures) -> Image.Image:
    return ImageOps.mirror(picture) if by.text("axis").lower() == "horizontal" else ImageOps.flip(picture)


def _on_colors(change: Callable[[Image.Image], Image.Image]) -> Step:
    """A step that leaves transparency as it is."""

    def step(picture: Image.Image, by: Operation, _: Pictures) -> Image.Image:
        changed = change(picture.convert("RGB")).convert("RGBA")
        changed.putalpha(picture.getchannel("A"))
        return changed

    return step


def _blur(picture: Image.Image, by: Operation, _: Pictures) -> Image.Image:
    """With colours weighed by what is seen of them, so that transparent black does not bleed in."""
    radius = min(by.number("amount"), MOST_BLUR)
    return picture.convert("RGBa").filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")


def _sharpen(picture: Image.Image, by: Operation, _: Pictures) -> Image.Image:
    return picture.filter(ImageFilter.UnsharpMask(radius=2, percent=min(500, round(100 * by.number("amount", 1)))))


def _enhanced(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Step:
    def step(picture: Image.Image, by: Operation, _: Pictures) -> Image.Image:
        changed = enhancer(picture.convert("RGB")).enhance(min(by.number("amount"), 10)).convert("RGBA")
        changed.putalpha(picture.getchannel("A"))
        return changed

    return step


def _pad(picture: Image.Image, by: Operation, _: Pictures) -> Image.Image:
    margin = by.whole("amount")
    color = _color(by.text("color", "#00000000"))
    size = (picture.width + 2 * margin, picture.height + 2 * margin)
    _check_size(*size)
    ground = Image.new("RGBA", size, color)
    ground.paste(picture, (margin, margin))
    return ground


def _background(picture: Image.Image, by: Operation, _: Pictures) -> Image.Image:
    ground = Image.new("RGBA", picture.size, _color(by.text("color")))
    ground.alpha_composite(picture)
    return ground


def _text(picture: Image.Image, by: Operation, _: Pictures) -> Image.Image:
    layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    font = ImageFont.load_default(max(4, by.whole("size", 32)))
    place, words = (by.whole("x"), by.whole("y")), unquoted(by.text("words"))
    if len(words) > MOST_LETTERS:
        raise InvalidArgument(f"A text of {len(words)} characters is too long.", hint=f"At most {MOST_LETTERS}.")
    ImageDraw.Draw(layer).text(place, words, _color(by.text("color", "black")), font)
    return Image.alpha_composite(picture, layer)


def _overlay(picture: Image.Image, by: Operation, pictures: Pictures) -> Image.Image:
    which = by.whole("which")
    if not 2 <= which <= len(pictures):
        raise InvalidArgument(f"overlay {which}: there is no such picture.", hint="Name it second in image_asset_ids.")
    other = pictures[which - 1]
    if by.arguments.get("width"):
        size = (max(1, by.whole("width")), max(1, by.whole("height")))
        _check_size(*size)
        other = _exact(other, size)
    layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    layer.paste(other, (by.whole("x"), by.whole("y")))
    return Image.alpha_composite(picture, layer)


def _color(text: str) -> tuple[int, int, int, int]:
    from PIL import ImageColor

    try:
        red, green, blue, *alpha = ImageColor.getrgb(text)
    except ValueError:
        raise InvalidArgument("There is no such colour.", hint="Such as white, #ff8800 or rgb(255,136,0).") from None
    return red, green, blue, alpha[0] if alpha else 255


STEPS: Final[dict[str, Step]] = {
    "crop": _crop,
    "resize": _resize,
    "rotate": _rotate,
    "flip": _flip,
    "grayscale": _on_colors(lambda picture: picture.convert("L").convert("RGB")),
    "autocontrast": _on_colors(ImageOps.autocontrast),
    "blur": _blur,
    "sharpen": _sharpen,
    "brightness": _enhanced(ImageEnhance.Brightness),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "saturation": _enhanced(ImageEnhance.Color),
    "pad": _pad,
    "background": _background,
    "text": _text,
    "overlay": _overlay,
}
