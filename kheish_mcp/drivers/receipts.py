"""Answers with media in them, of any dialect: what of one is a result, what of it came, and what lies elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ..errors import DataLoss, Json, KheishError, Unavailable
from ..media import Kind, Media
from .answers import Answer, to_end
from .http import Line
from .openrouter.codec import Picture, as_declared, decode_pictures
from .refusals import PERHAPS_BILLED, malformed


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a request may take in all, whatever trickles in and retries included.

    `fetch` is for one link, `silence` for a conversation without a byte. Slow models take minutes for a long answer.
    """

    image: float = 300.0
    speech: float = 120.0
    transcription: float = 90.0
    fetch: float = 60.0
    discovery: float = 60.0
    key: float = 20.0
    talk: float = 300.0
    silence: float = 60.0


class Receipts:
    """What comes over one line; a picture behind a link is fetched within `fetch_s`."""

    def __init__(self, line: Line, *, fetch_s: float) -> None:
        self._line = line
        self._fetch_s = fetch_s

    async def result(self, answer: Answer) -> Json:
        """The JSON of an answer; raises the refusal that a 200 may hold instead."""
        decoded = await answer.json()
        refusal = self._line.refusal_in(decoded)
        if refusal is not None:
            raise refusal
        return decoded

    async def check_sound(self, answer: Answer) -> None:
        """Raises the refusal for JSON where sound belongs, whatever its Content-Type says."""
        if not answer.body[:64].lstrip().startswith(b"{"):
            return
        try:
            decoded = await answer.json()
        except Unavailable:
            return  # sound that begins with a brace by chance
        words = malformed("The provider answered with words instead of sound.", answer.body)
        raise self._line.refusal_in(decoded) or words

    async def pictures(self, decoded: Json) -> tuple[tuple[Media, ...], tuple[str, ...], tuple[bytes, ...]]:
        """The media of an answer in order, a warning for each that is none, and what came of those.

        DataLoss where no picture decodes, Unavailable where none came.
        """
        named = await to_end(partial(decode_pictures, decoded))
        return _sorted([await self.fetched(picture) if picture.url else picture for picture in named])

    async def fetched(self, picture: Picture) -> Picture:
        """The picture behind a URL, or why it is not there: it is paid for, and others of the answer may be whole."""
        try:
            answer = await self._line.fetch(picture.url, deadline_s=self._fetch_s)
        except KheishError as refusal:
            told = f"A picture could not be fetched. {refusal.message}"
            return Picture(trouble=told, remains=b"".join(refusal.remains))
        return Picture(as_declared(answer.body, "image/png", Kind.IMAGE))


def _sorted(pictures: Sequence[Picture]) -> tuple[tuple[Media, ...], tuple[str, ...], tuple[bytes, ...]]:
    """What came of the pictures; refuses where none is one."""
    media = tuple(picture.media for picture in pictures if picture.media is not None)
    troubles = tuple(picture.trouble for picture in pictures if picture.trouble)
    remains = tuple(picture.remains for picture in pictures if picture.remains)
    if not media and remains:
        raise DataLoss(troubles[0], hint=PERHAPS_BILLED, details={"possibly_billed": True}, remains=remains)
    if not media:
        raise malformed(troubles[0])
    return media, troubles, remains
