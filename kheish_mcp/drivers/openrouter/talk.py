"""OpenRouter's conversations: one request, streamed, of a model that answers in text or in sound."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

import anyio.to_thread

from ...capabilities import Exchange, Generation, SpeechRequest, nobody_listens
from ...conversation import ChatRequest, Reply
from ...errors import DeadlineExceeded, Json, JsonObject, KheishError, NotFound, Unavailable
from ..answers import to_end
from ..http import Line
from .assembly import UNPRICED, Assembly
from .chat import encode_chat, routing
from .codec import Picture
from .sound import Manner, decode_sound, encode_sound

PATH: Final = "/chat/completions"
# A slow model takes minutes for a long answer, and OpenRouter says every few seconds that it is there.
WHOLE_S, IDLE_S = 300.0, 60.0
SENSES: Final = re.compile(r"\b(?:image|audio) input", re.IGNORECASE)
OTHER_SENSES: Final = (
    "Choose a model that takes it, such as google/gemini-2.5-flash; list_models shows what each takes."
)


def routed(model: str, request: ChatRequest, preferences: Mapping[str, Json]) -> tuple[JsonObject, tuple[str, ...]]:
    """A conversation's body in OpenRouter's own words, and warnings for preferences that it does not take."""
    provider, ignored = routing(preferences, request.schema)
    return encode_chat(model, request, provider), ignored


class Talk:
    """Conversations over one line, in OpenRouter's dialect or in the one that `encode` writes.

    `fetched` gives a picture for one that lies behind a URL; limits are in seconds.
    """

    def __init__(
        self,
        line: Line,
        fetched: Callable[[Picture], Awaitable[Picture]],
        *,
        encode: Callable[[str, ChatRequest, Mapping[str, Json]], tuple[JsonObject, tuple[str, ...]]] = routed,
        whole_s: float = WHOLE_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._line = line
        self._fetched = fetched
        self._encode = encode
        self._limits = {"deadline_s": whole_s, "idle_s": idle_s}

    async def answer(
        self, model: str, request: ChatRequest, exchange: Exchange, said: Callable[[str], Awaitable[None]]
    ) -> Reply:
        """The next turn; a picture that is not there is a warning, since the answer is paid for."""
        preferences = self._line.endpoint.preferences
        body, ignored = await anyio.to_thread.run_sync(self._encode, model, request, preferences)
        assembly = Assembly(model)
        broken = await self._heard(body, assembly, exchange, said)
        drawn = await to_end(assembly.pictures)
        pictures = [await self._fetched(picture) if picture.url else picture for picture in drawn]
        media = tuple(picture.media for picture in pictures if picture.media is not None)
        troubles = tuple(picture.trouble for picture in pictures if picture.trouble)
        remains = tuple(picture.remains for picture in pictures if picture.remains)
        return replace(assembly.reply(media, (*ignored, *broken, *troubles)), remains=remains)

    async def speak(self, manner: Manner, model: str, request: SpeechRequest, exchange: Exchange) -> Generation:
        """Sound with its words; Unavailable where none came."""
        provider, ignored = routing(self._line.endpoint.preferences)
        assembly = Assembly(model)
        broken = await self._heard(encode_sound(manner, model, request, provider), assembly, exchange, nobody_listens)
        data, missing = await to_end(assembly.sound)
        media, told = decode_sound(manner, data, request, assembly.transcript)
        return Generation(
            (media,),
            assembly.model,
            assembly.cost_usd,
            assembly.generation_id,
            transcript=assembly.transcript or None,
            warnings=(*ignored, *broken, *missing, *told, *((UNPRICED,) if assembly.cost_usd is None else ())),
        )

    async def _heard(
        self, body: JsonObject, assembly: Assembly, exchange: Exchange, said: Callable[[str], Awaitable[None]]
    ) -> tuple[str, ...]:
        """Fills `assembly` to its end; a refusal carries what had come of pictures and sound, which may be paid for."""
        try:
            return await self._filled(body, assembly, exchange, said)
        except KheishError as refusal:
            refusal.remains = refusal.remains or await to_end(assembly.remains)
            if isinstance(refusal, NotFound) and SENSES.search(refusal.message):
                refusal.hint = OTHER_SENSES
            raise

    async def _filled(
        self, body: JsonObject, assembly: Assembly, exchange: Exchange, said: Callable[[str], Awaitable[None]]
    ) -> tuple[str, ...]:
        """Warnings of the line: one that breaks behind the model's last word costs the bill, and not the answer."""

        async def take(event: Json) -> None:
            if piece := assembly.take(event):
                await said(piece)

        done = True
        broken: tuple[str, ...] = ()
        try:
            ending = await self._line.stream_json(PATH, body, exchange, take, **self._limits)
            done, assembly.generation_id = ending.done, ending.generation_id or assembly.generation_id
        except (Unavailable, DeadlineExceeded) as refusal:
            if not assembly.whole:
                raise
            broken = (f"The line broke behind the last word. {refusal.message}",)
        if last := assembly.ended(done):
            await said(last)
        return broken
