"""OpenRouter: conversations, and images, edits, speech and transcription through its own endpoints for them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import ClassVar, Final
from urllib.parse import quote

import anyio
import anyio.to_thread

from ...capabilities import (
    AudioGeneration,
    Driver,
    EditRequest,
    Exchange,
    Generation,
    ImageEdit,
    ImageGeneration,
    ImageRequest,
    KeyStanding,
    ModelCard,
    MultimodalInput,
    SpeechRequest,
    Transcript,
    Transcription,
    TranscriptionRequest,
)
from ...conversation import ChatRequest, Reply, TextGeneration
from ...errors import InvalidArgument, Json, KheishError
from ..answers import Answer
from ..http import Endpoint, Line
from ..patience import Clock
from ..receipts import Deadlines, Receipts
from .books import LOOKUP_S, decode_cost, lookup_path
from .codec import (
    AUDIO_PREFERENCES,
    IMAGE_PREFERENCES,
    cost_of,
    decode_speech,
    decode_transcription,
    encode_image,
    encode_speech,
    encode_transcription,
    preferred,
    speech_wire,
)
from .discovery import decode_models, find, indexed, with_image_models, with_prices
from .keys import decode_standing
from .narrowing import check_senses, narrowed_picture, narrowed_speech
from .sound import Manner, manner_of
from .talk import Talk

LARGEST_CATALOGUE: Final = 16 << 20
MOST_PRICED: Final = 8
HEADERS: Final = {"X-OpenRouter-Title": "kheish-mcp"}
HINTS: Final = {
    402: "The account is out of credit: top it up at https://openrouter.ai/settings/credits, or use another route."
}
PICTURE_MODELS: Final = ("google/gemini-3.1-flash-image-preview", "openai/gpt-image-2", "openai/gpt-5-image-mini")
SPEECH_MODELS: Final = ("openai/gpt-4o-mini-tts-2025-12-15",)
TRANSCRIPTION_MODELS: Final = ("openai/gpt-4o-mini-transcribe",)
# Families that hear, where the provider's own list is not known; most text models see.
HEARING: Final = ("google/gemini-", "openai/gpt-audio", "openai/gpt-4o-audio", "mistralai/voxtral-")
VOICES: Final = ("alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse")
DRAWS: Final = ("image_generation", "image_edit")
DRAWN: Final = (("1K", "2K", "4K", "WxH"), ("png", "jpeg", "webp"))
BUILT_IN: Final = (
    *(ModelCard(model, DRAWS, (), *DRAWN) for model in PICTURE_MODELS),
    *(ModelCard(model, ("audio_generation",), VOICES, (), ("mp3", "wav", "pcm")) for model in SPEECH_MODELS),
    *(ModelCard(model, ("transcription",)) for model in TRANSCRIPTION_MODELS),
)
FORMAT_WORDS: Final = re.compile(r"\bmp3\b|format", re.IGNORECASE)
COST_LATER: Final = "The cost of speech is known a little later; see `kheish-daemon costs`."
TIMES_WORDS: Final = re.compile(r"verbose_json|response_format|timestamp|diari[sz]", re.IGNORECASE)
NO_TIMES: Final = (
    "Ask without times and speakers, or try openai/whisper-1 for times and assemblyai/universal-3-pro for speakers."
)


class OpenRouter(Driver, TextGeneration, MultimodalInput, ImageGeneration, ImageEdit, AudioGeneration, Transcription):
    """One route to OpenRouter, or to a server that speaks its dialect.

    Facts of 2026-11-22: POST /images draws and edits, POST /audio/speech and /audio/transcriptions speak and hear; all
    three answer at once. Images are all or nothing and free when they fail; speech says its cost only later. POST
    /chat/completions answers in a stream, in text, and of some models in sound.
    """

    name = "openrouter"
    provider = "openrouter"
    needs_key = True
    default_base_url = "https://openrouter.ai/api/v1"
    preferred: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "image_generation": PICTURE_MODELS,
        "image_edit": PICTURE_MODELS,
        "audio_generation": SPEECH_MODELS,
        "transcription": TRANSCRIPTION_MODELS,
    }

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        deadlines: Deadlines = Deadlines(),  # noqa: B008 - frozen
        clock: Clock = Clock(),  # noqa: B008 - frozen
    ) -> None:
        self._line = Line(endpoint, headers=HEADERS, hints=HINTS, clock=clock)
        self._deadlines = deadlines
        self._received = Receipts(self._line, fetch_s=deadlines.fetch)
        talk_s, idle_s = deadlines.talk, deadlines.silence
        self._talk = Talk(self._line, self._received.fetched, whole_s=talk_s, idle_s=idle_s)
        self._cards = BUILT_IN
        self._index = indexed(BUILT_IN)

    def models(self) -> tuple[ModelCard, ...]:
        """What was learned, else the models that are used when none is named; any other id is passed on."""
        return self._cards

    def card(self, model: str) -> ModelCard | None:
        """The card of a model, by its id, an alias, or a variant of either."""
        return find(self._index, model)

    async def discover(self, drawing: Collection[str] = ()) -> tuple[ModelCard, ...]:
        """GET /models for all modalities, then GET /images/models, and what pictures of the first few `drawing` cost.

        Without the last two, pictures are only not narrowed, or estimated by the token.
        """
        cards = await anyio.to_thread.run_sync(decode_models, await self._listed("/models?output_modalities=all"))
        with suppress(KheishError):
            cards = await anyio.to_thread.run_sync(with_image_models, cards, await self._listed("/images/models"))
            priced = {
                model: await self._priced(card)
                for model in [*drawing][:MOST_PRICED]
                for card in cards
                if card.id == model
            }
            cards = tuple(priced.get(card.id, card) for card in cards)
        return cards

    async def _priced(self, card: ModelCard) -> ModelCard:
        """A card with what its pictures cost, where the provider says it."""
        with suppress(KheishError):
            return with_prices(card, await self._listed(f"/images/models/{quote(card.id, safe='/:~')}/endpoints"))
        return card

    def learn(self, cards: tuple[ModelCard, ...]) -> None:
        """Knows these models from now on, and no others."""
        self._cards, self._index = cards, indexed(cards)

    async def answer(
        self, model: str, request: ChatRequest, exchange: Exchange, said: Callable[[str], Awaitable[None]]
    ) -> Reply:
        """The next turn through POST /chat/completions; pictures and sound only for models that take them."""
        seeing = [card.id for card in self.models() if {"text", "image"} <= {*card.inputs} and "text" in card.outputs]
        check_senses(model, request, sees=self.sees(model), hears=self.hears(model), others=seeing)
        with self._line.watching(model):
            return await self._talk.answer(model, request, exchange, said)

    def sees(self, model: str) -> bool:
        """What the provider's list says; without it yes, since most do and the others refuse without cost."""
        card = self._learned(model)
        return card is None or not card.inputs or "image" in card.inputs

    def hears(self, model: str) -> bool:
        """What the provider's list says; without it the families that are known to."""
        card = self._learned(model)
        return "audio" in card.inputs if card is not None and card.inputs else model.startswith(HEARING)

    def context_tokens(self, model: str) -> int | None:
        """What the provider's list says."""
        card = self.card(model)
        return card.context_tokens if card is not None else None

    async def generate_image(self, model: str, request: ImageRequest, exchange: Exchange) -> Generation:
        """Pictures through POST /images. Every one that came whole is given, with a warning for each that did not.

        Refuses what the model is known not to take, as the codec and the line do, with DataLoss where no picture
        decodes, and with Unavailable where none came. What came all the same is in the refusal's, or the generation's,
        `remains`.
        """
        request = narrowed_picture(self._learned(model), request)
        provider, warnings = preferred(self._line.endpoint.preferences, IMAGE_PREFERENCES)
        body = partial(encode_image, model, request, provider)
        left = self._deadlines.image
        with self._line.watching(model):
            answer = await self._line.post_json("/images", body, exchange, deadline_s=left, awaited="the pictures")
            decoded = await self._received.result(answer)
            with answer.kept():
                media, told, remains = await self._received.pictures(decoded)
        cost = cost_of(decoded)
        return Generation(media, model, cost, answer.generation_id, warnings=warnings + told, remains=remains)

    async def edit_image(self, model: str, request: EditRequest, exchange: Exchange) -> Generation:
        """As generate_image, with the pictures as references in order."""
        return await self.generate_image(model, request, exchange)

    async def generate_audio(self, model: str, request: SpeechRequest, exchange: Exchange) -> Generation:
        """Speech through POST /audio/speech, which gives mp3 or samples and nothing else; its cost comes later.

        Samples come as a WAV unless pcm was asked for. A 400 about the format is asked once more, for samples. Refuses a
        voice that the model is known not to have. Models that chat in sound speak, or play, in a conversation.
        """
        request = narrowed_speech(self._learned(model), request)
        manner = self._manner(model)
        if manner is not None:
            with self._line.watching(model):
                return await self._talk.speak(manner, model, request, exchange)
        provider, warnings = preferred(self._line.endpoint.preferences, AUDIO_PREFERENCES)
        wire = speech_wire(model, request.format)
        until = anyio.current_time() + self._deadlines.speech

        async def spoken(wire: str) -> Answer:
            body, left = encode_speech(model, request, wire, provider), until - anyio.current_time()
            return await self._line.post_json("/audio/speech", body, exchange, deadline_s=left, awaited="the sound")

        with self._line.watching(model):
            try:
                answer = await spoken(wire)
            except InvalidArgument as refusal:
                # A model that gives only samples says so with a 400, which is not billed.
                if wire == "pcm" or not _is_about_format(refusal):
                    raise
                await exchange.again()
                answer = await spoken(wire := "pcm")
            await self._received.check_sound(answer)
            with answer.kept():
                media, told = decode_speech(answer.body, answer.content_type, wire, request.format)
        return Generation((media,), model, None, answer.generation_id, warnings=(*warnings, *told, COST_LATER))

    def longest_speech(self, model: str) -> int:
        """In characters: what the endpoint takes, or what a model that chats says in one breath."""
        manner = self._manner(model)
        return manner.longest if manner is not None else super().longest_speech(model)

    async def transcribe(self, model: str, request: TranscriptionRequest, exchange: Exchange) -> Transcript:
        """Words through POST /audio/transcriptions; times and speakers only from models that tell them.

        A model that does not refuses with a 400; the hint then names models that do.
        """
        provider, warnings = preferred(self._line.endpoint.preferences, AUDIO_PREFERENCES)
        body, told = await anyio.to_thread.run_sync(encode_transcription, model, request, provider)
        left = self._deadlines.transcription
        with self._line.watching(model):
            try:
                answer = await self._line.post_json(
                    "/audio/transcriptions", body, exchange, deadline_s=left, awaited="the transcript"
                )
            except InvalidArgument as refusal:
                refusal.hint = NO_TIMES if TIMES_WORDS.search(refusal.message) else refusal.hint
                raise
            decoded = await self._received.result(answer)
            with answer.kept():
                return decode_transcription(decoded, model, answer.generation_id, warnings + told)

    def _manner(self, model: str) -> Manner | None:
        """How the model is asked for sound in a chat, if it is."""
        card = self._learned(model)
        return manner_of(model, card.outputs if card is not None else ())

    def _learned(self, model: str) -> ModelCard | None:
        """The card that the provider itself gave; what is built in is too old to refuse anything by."""
        card = self.card(model)
        return card if card is not None and card.outputs else None

    async def check_key(self) -> KeyStanding:
        """GET /key, which any key for inference may ask."""
        answer = await self._line.get_json("/key", deadline_s=self._deadlines.key)
        return decode_standing(await self._received.result(answer))

    async def cost_of(self, generation_id: str) -> float:
        """GET /generation, which costs nothing itself."""
        answer = await self._line.get_json(lookup_path(generation_id), deadline_s=LOOKUP_S)
        return decode_cost(await self._received.result(answer))

    async def close(self) -> None:
        """Closes the line."""
        await self._line.close()

    async def _listed(self, path: str) -> Json:
        """A list of models, as the provider sends it."""
        return await self._received.result(
            await self._line.get_json(path, deadline_s=self._deadlines.discovery, largest=LARGEST_CATALOGUE)
        )


def _is_about_format(refusal: InvalidArgument) -> bool:
    """Whether a 400 is about the sound's format: Gemini's voices are not the only ones that know no mp3."""
    return refusal.details.get("status") == 400 and FORMAT_WORDS.search(refusal.message) is not None
