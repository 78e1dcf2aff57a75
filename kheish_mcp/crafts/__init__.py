"""What a worker process can do; one file a craft, bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final, TypeAlias

from ..errors import JsonObject

Craft: TypeAlias = Callable[[JsonObject, tuple[bytes, ...]], tuple[JsonObject, tuple[bytes, ...]]]

CRAFTS: Final = {
    "check_image": "check_image",
    "preview_image": "preview_image",
    "render_svg": "render_svg",
    "edit_image": "edit_image",
    "clear_mask": "clear_mask",
    "draw_sixel": "draw_sixel",
    "speak": "speak",
    "hear": "hear",
    "read_pdf": "read_pdf",
}


def craft(name: str) -> Craft:
    """A craft by its name, imported only now; each file's function is called like the craft."""
    function: Craft = getattr(import_module(f".{CRAFTS[name]}", __name__), name)
    return function
