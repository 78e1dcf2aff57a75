"""Spoken pieces joined into one sound, without clicks and without encoding anything again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ..errors import MediaRejected
from ..media import Media
from .mp3 import Frame, frames
from .ogg import chained
from .wav import unwrap, wrap


def join(pieces: Sequence[Media]) -> Media:
    """One sound of all pieces, in order; MediaRejected where they are not alike or the format cannot be joined."""
    first = pieces[0]
    if len(pieces) == 1:
        return first
    joiner = JOINERS.get(first.media_type)
    if joiner is None or any(piece.media_type != first.media_type or piece.pcm != first.pcm for piece in pieces):
        raise MediaRejected(f"Pieces of {first.media_type} cannot be joined.", hint="Ask for wav or mp3.")
    return Media(joiner([piece.data for piece in pieces]), first.media_type, first.name, first.pcm)


def _wav(pieces: Sequence[bytes]) -> bytes:
    unwrapped = [unwrap(piece) for piece in pieces]
    layouts = {pcm for _, pcm in unwrapped}
    if len(layouts) != 1:
        raise MediaRejected("The pieces differ in rate or channels.", hint="Ask for mp3, or a shorter text.")
    return wrap(b"".join(samples for samples, _ in unwrapped), layouts.pop())


def _mp3(pieces: Sequence[bytes]) -> bytes:
    """Frames alone: tags and Xing/Info frames describe one piece and would be wrong for the whole.

    An encoder starts each piece with an empty bit reservoir (main_data_begin 0), so no frame looks back into another
    piece.
    """
    found: list[tuple[bytes, Frame]] = [(data, f) for data in pieces for f in frames(data) if not f.information]
    if len({frame.likeness for _, frame in found}) != 1:
        raise MediaRejected("The pieces differ in rate or channels.", hint="Ask for wav, or a shorter text.")
    return b"".join(data[frame.start : frame.start + frame.length] for data, frame in found)


JOINERS: Final[dict[str, Callable[[Sequence[bytes]], bytes]]] = {
    "audio/pcm": b"".join,
    "audio/wav": _wav,
    "audio/mpeg": _mp3,
    "audio/opus": chained,
    "audio/ogg": chained,
}
# Frames of FLAC carry their numbers and checksums, and the head a digest of all samples: joined, each would be wrong.
APART: Final = frozenset({"flac"})
