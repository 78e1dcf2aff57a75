"""SVG drawn as a picture, with nothing in it that reaches outside."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import InvalidArgument, JsonObject, MediaRejected, ResourceExhausted

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LARGEST: Final = 2_000_000
MOST_NODES: Final = 50_000
LONGEST_SIDE: Final = 4096
UNITS: Final = {"": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}
LENGTH: Final = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)
NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)
LONGEST_VALUE: Final = 200
THINNEST: Final = 1e-3
INSIDE: Final = re.compile(r"#|data:image/(?:png|jpeg|webp);base64,")
OUTSIDE: Final = re.compile(r"@import|url\(\s*+['\"]?+\s*+(?!#|data:image/(?:png|jpeg|webp);base64,)", re.IGNORECASE)
BANNED: Final = frozenset({"script", "foreignObject", "iframe", "audio", "video"})


def render_svg(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """A PNG of the SVG at its own size, or within `width` x `height`; `background` is a colour or nothing.

    Refuses documents over 2 MB or 50,000 nodes, with a DOCTYPE, or with references to files or servers: the drawing
    library would read absolute paths, and a canvas of 200,000 pixels ends its process.
    """
    source = _decoded(blobs[0])
    root = parsed(source)
    width, height = _target(canvas(root), parameters)
    import resvg_py
    from PIL import Image

    background = parameters.get("background")
    try:
        made = resvg_py.svg_to_bytes(
            svg_string=source,
            width=width,
            height=height,
            background=background if isinstance(background, str) else None,
            dpi=96,
            font_files=[_font()],
            font_family="Aileron",
            sans_serif_family="Aileron",
        )
    except ValueError:
        raise InvalidArgument("The SVG cannot be drawn.", hint="Check it against the SVG standard.") from None
    with Image.open(io.BytesIO(made), formats=("PNG",)) as picture:
        size = picture.size
    return {"width": size[0], "height": size[1]}, (bytes(made),)


def _decoded(data: bytes) -> str:
    """The text, by one encoding alone: a document read as one text and drawn as another could hide what it holds."""
    if len(data) > LARGEST:
        raise ResourceExhausted(f"The SVG is larger than {LARGEST:,} bytes.", hint="Simplify it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidArgument("The SVG is not UTF-8.", hint="Save it as UTF-8.") from None


def parsed(source: str) -> Element:
    """The document's root; refuses what it must not hold."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root: Element = fromstring(source, forbid_dtd=True)
    except DefusedXmlException:
        raise MediaRejected("An SVG may not hold a DOCTYPE or entities.", hint="Take them out.") from None
    except (ParseError, ValueError, RecursionError):
        raise InvalidArgument(
            "The SVG is not well-formed XML.", hint="Close every element and quote attributes."
        ) from None
    if _name(root) != "svg":
        raise InvalidArgument("The document's root is not svg.", hint="Begin with <svg xmlns=...>.")
    for count, element in enumerate(root.iter()):
        if count > MOST_NODES:
            raise ResourceExhausted(f"The SVG has more than {MOST_NODES:,} elements.", hint="Simplify it.")
        _check(element)
    return root


def _check(element: Element) -> None:
    if _name(element) in BANNED:
        raise MediaRejected(f"An SVG may not hold {_name(element)}.", hint="Draw with shapes, text and paths alone.")
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] in ("href", "src") and not INSIDE.match(value.strip()):
            raise _reaches_out()
        if OUTSIDE.search(value):
            raise _reaches_out()
    if _name(element) == "style" and OUTSIDE.search("".join(element.itertext())):
        raise _reaches_out()


def _reaches_out() -> MediaRejected:
    return MediaRejected(
        "The SVG refers to something outside itself.", hint="Embed pictures as data:image/png;base64 and refer to #ids."
    )


def canvas(root: Element) -> tuple[float, float]:
    """Width and height in pixels, from the root's own or from its viewBox."""
    box = [float(number) for number in NUMBER.findall(root.get("viewBox", "")[:LONGEST_VALUE])]
    view = (box[2], box[3]) if len(box) == 4 and all(THINNEST <= side < math.inf for side in box[2:]) else None
    width, height = _length(root.get("width")), _length(root.get("height"))
    if width and height:
        return width, height
    if view is None:
        raise InvalidArgument("The SVG says no size.", hint="Give it a width and a height, or a viewBox.")
    ratio = max(THINNEST, view[1] / view[0])
    return (width, width * ratio) if width else (height / ratio, height) if height else view


def _length(text: str | None) -> float | None:
    match = LENGTH.fullmatch((text or "")[:LONGEST_VALUE])
    factor = UNITS.get(match[2].lower()) if match else None
    return float(match[1]) * factor if match and factor and float(match[1]) >= THINNEST else None


def _target(own: tuple[float, float], parameters: JsonObject) -> tuple[int, int]:
    """Whole pixels: the own size, or the largest of its shape within the asked one."""
    if not all(math.isfinite(side) for side in own):
        raise ResourceExhausted("The SVG has no bounds.", hint="Give it a width and a height.")
    wanted = parameters.get("width"), parameters.get("height")
    scale = 1.0
    if isinstance(wanted[0], int) and isinstance(wanted[1], int):
        scale = min(wanted[0] / own[0], wanted[1] / own[1])
    width, height = max(1, round(own[0] * scale)), max(1, round(own[1] * scale))
    if max(width, height) > LONGEST_SIDE:
        hint = (
            "Ask for a smaller size." if scale != 1 else "Give the SVG a smaller width and height, or ask for a size."
        )
        raise ResourceExhausted(f"{width} x {height} pixels are more than {LONGEST_SIDE} a side.", hint=hint)
    return width, height


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _font() -> str:
    """A font of our own (Aileron, CC0, from Pillow), so that text is drawn on a machine without any."""
    from PIL import ImageFont

    path = Path("aileron.ttf")
    if not path.exists():
        font = ImageFont.load_default(16)
        assert isinstance(font, ImageFont.FreeTypeFont)
        source = font.path
        assert isinstance(source, io.BytesIO)
        path.write_bytes(source.getvalue())
    return str(path.resolve())
