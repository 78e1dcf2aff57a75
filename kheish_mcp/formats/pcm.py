"""Headerless samples, which are only what they are declared to be."""

from __future__ import annotations

from dataclasses import replace

from ..errors import MediaRejected
from ..media import Facts, Kind, Media, Pcm
from .base import Format, broken
from .wav import wrap


def inspect(media: Media) -> Facts:
    """Duration from the declared layout; MediaRejected without one, or where a sample is cut.

    audio/l16 and audio/l24 are big-endian by RFC 3190; the bytes are kept as they are (`in_our_order` turns them).
    """
    form, pcm = BY_TYPE[media.media_type], _layout(media)
    if not media.data or len(media.data) % pcm.frame_bytes:
        raise broken("sound", "it does not end with a whole sample")
    seconds = len(media.data) / (pcm.rate * pcm.frame_bytes)
    return replace(form.facts(duration_s=round(seconds, 6)), pcm=pcm)


def _layout(media: Media) -> Pcm:
    if media.pcm is None:
        raise MediaRejected(
            "Headerless samples need their rate.", hint=f"Declare them as {media.media_type};rate=24000;channels=1."
        )
    return media.pcm


def with_header(media: Media) -> bytes:
    """A sound as a file that says its own layout: headerless samples become a WAV, anything else stays as it is.

    MediaRejected for samples whose rate nobody said.
    """
    return wrap(in_our_order(media), _layout(media)) if media.media_type in BY_TYPE else media.data


def in_our_order(media: Media) -> bytes:
    """The samples of any of the three types as `Pcm` has them: little-endian."""
    if media.media_type not in BIG_ENDIAN or media.pcm is None:
        return media.data
    turned, width = bytearray(media.data), media.pcm.bits // 8
    for place in range(width):
        turned[place::width] = media.data[width - 1 - place :: width]
    return bytes(turned)


PCM = Format("audio/pcm", Kind.AUDIO, "pcm", inspect)
L16 = Format("audio/l16", Kind.AUDIO, "l16", inspect)
L24 = Format("audio/l24", Kind.AUDIO, "l24", inspect)
BY_TYPE = {form.media_type: form for form in (PCM, L16, L24)}
BIG_ENDIAN = frozenset({"audio/l16", "audio/l24"})
