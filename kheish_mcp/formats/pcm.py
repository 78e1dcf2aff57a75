"""Headerless samples, which are only what they are declared to be."""

from __future__ import annotations

from dataclasses import replace

from ..errors import MediaRejected
from ..media import Facts, Kind, Media
from .base import Format, broken


def inspect(media: Media) -> Facts:
    """Duration from the declared layout; MediaRejected without one, or where a sample is cut.

    audio/l16 is big-endian by RFC 2586; the bytes are kept as they are, and its type says how to read them.
    """
    form = BY_TYPE[media.media_type]
    if media.pcm is None:
        raise MediaRejected(
            "Headerless samples need their rate.", hint=f"Declare them as {form.media_type};rate=24000;channels=1."
        )
    if not media.data or len(media.data) % media.pcm.frame_bytes:
        raise broken("sound", "it does not end with a whole sample")
    seconds = len(media.data) / (media.pcm.rate * media.pcm.frame_bytes)
    return replace(form.facts(duration_s=round(seconds, 6)), pcm=media.pcm)


PCM = Format("audio/pcm", Kind.AUDIO, "pcm", inspect)
L16 = Format("audio/l16", Kind.AUDIO, "l16", inspect)
BY_TYPE = {form.media_type: form for form in (PCM, L16)}
