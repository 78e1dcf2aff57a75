"""Proof that a picture decodes to its last pixel, with a small picture of it from the same decoding."""

from __future__ import annotations

from ..errors import JsonObject, MediaRejected
from .pillow import MOST_FRAMES, opened
from .preview_image import shrunk


def check_image(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """width, height, frames, and the preview as the one blob; takes the parameters of preview_image."""
    picture = opened(blobs[0])
    frames = getattr(picture, "n_frames", 1)
    if frames > MOST_FRAMES:
        raise MediaRejected(f"{frames} frames are more than {MOST_FRAMES}.", hint="Send a shorter animation.")
    facts, preview = shrunk(picture, parameters)
    return {"width": picture.width, "height": picture.height, "frames": frames, **facts}, (preview,)
