"""OpenAI, and servers that speak its dialect: conversations, images, edits, speech and transcription."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar, Final
from urllib.parse import urlsplit

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
from ...errors import InvalidArgument, Json
from ...workers import Workers
from ..answers import Answer
from ..http import Endpoint, Line
from ..openrouter.assembly import UNPRICED
from ..openrouter.talk import Talk
from ..patience import Clock
from ..receipts import Deadlines, Receipts
from .codec import (
    decode_heard,
    decode_speech,
    encode_drawing,
    encode_plainly,
    encode_speech,
    form_of_edit,
    form_of_transcription,
    unheard,
)

OWN_HOST: Final = "api.openai.com"
PICTURE_MODELS: Final = ("gpt-image-2",)
SPEECH_MODELS: Final = ("gpt-4o-mini-tts",)
TRANSCRIPTION_MODELS: Final = ("gpt-4o-mini-transcribe", "whisper-1", "gpt-4o-transcribe-diarize")
VOICES: Final = ("alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse")
FORMATS: Final = ("mp3", "wav", "pcm", "flac", "opus")
CARDS: Final = (
    *(
        ModelCard(model, ("image_generation", "image_edit"), (), ("WxH", "1K", "2K", "4K"), ("png", "jpeg", "webp"))
        for model in PICTURE_MODELS
    ),
    *(ModelCard(model, ("audio_generation",), VOICES, (), FORMATS) for model in SPEECH_MODELS),
    *(ModelCard(model, ("transcription",)) for model in TRANSCRIPTION_MODELS),
)
HEARING: Final = re.compile(r"audio|omni|voxtral", re.IGNORECASE)
FORM_WORDS: Final = re.compile(r"response_format|timestamp_granularities|chunking_strategy|diari[sz]", re.IGNORECASE)
NO_TIMES: Final = (
    "Ask without times and speakers, or try whisper-1 for times and gpt-4o-transcribe-diarize for speakers."
)


class OpenAI(Driver, TextGeneration, MultimodalInput, ImageGeneration, ImageEdit, AudioGeneration, Transcription):
    """One route to OpenAI, or to a server that speaks its dialect and does what its route declares.

    Facts of 2026-11: no answer says what it cost; /v1/models lists ids and nothing else, so nothing is discovered.
    """

    name = "openai"
    provider = "openai"
    needs_key = True
    default_base_url = f"https://{OWN_HOST}/v1"
    preferred: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "image_generation": PICTURE_MODELS,
        "image_edit": PICTURE_MODELS,
        "audio_generation": SPEECH_MODELS,
        "transcription": TRANSCRIPTION_MODELS[:1],
    }

    def __init__(
        self,
        endpoint: Endpoint,
        workers: Workers,
        *,
        deadlines: Deadlines = Deadlines(),  # noqa: B008 - frozen
        clock: Clock = Clock(),  # noqa: B008 - frozen
    ) -> None:
        self._line = Line(endpoint, clock=clock)
        self._workers = workers
        self._deadlines = deadlines
        self._received = Receipts(self._line, fetch_s=deadlines.fetch)
        limits = {"whole_s": deadlines.talk, "idle_s": deadlines.silence}
        self._talk = Talk(self._line, self._received.fetched, encode=encode_plainly, **limits)

    @classmethod
    def knows(cls, base_url: str) -> bool:
        """OpenAI itself; any other server is a stranger."""
        return urlsplit(base_url).hostname == OWN_HOST

    def models(self) -> tuple[ModelCard, ...]:
        """OpenAI's own models that are used when none is named; of another server's nothing is known."""
        return CARDS if self.knows(self._line.endpoint.base_url) else ()

    async def answer(
        self, model: str, request: ChatRequest, exchange: Exchange, said: Callable[[str], Awaitable[None]]
    ) -> Reply:
        """The next turn through POST /chat/completions; a model that takes no pictures refuses them itself."""
        with self._line.watching(model):
            return await self._talk.answer(model, request, exchange, said)

    def sees(self, model: str) -> bool:
        """Yes, as far as anybody can tell."""
        return True

    def hears(self, model: str) -> bool:
        """By its name."""
        return HEARING.search(model) is not None

    async def generate_image(self, model: str, request: ImageRequest, exchange: Exchange) -> Generation:
        """Pictures through POST /images/generations; see `_drawn` for what it gives and refuses."""

        async def ask(*, as_base64: bool, left: float) -> Answer:
            body = encode_drawing(model, request, as_base64=as_base64)
            return await self._line.post_json(
                "/images/generations", body, exchange, deadline_s=left, awaited="the pictures"
            )

        return await self._drawn(model, request, exchange, ask)

    async def edit_image(self, model: str, request: EditRequest, exchange: Exchange) -> Generation:
        """Pictures through POST /images/edits, changed within the mask where there is one."""
        mask = await self._mask(request)

        async def ask(*, as_base64: bool, left: float) -> Answer:
            form = form_of_edit(model, request, mask, as_base64=as_base64)
            return await self._line.post_form("/images/edits", form, exchange, deadline_s=left, awaited="the pictures")

        return await self._drawn(model, request, exchange, ask)

    async def generate_audio(self, model: str, request: SpeechRequest, exchange: Exchange) -> Generation:
        """Speech through POST /audio/speech, in the format that was asked for."""
        body, left = encode_speech(model, request), self._deadlines.speech
        with self._line.watching(model):
            answer = await self._line.post_json("/audio/speech", body, exchange, deadline_s=left, awaited="the sound")
            await self._received.check_sound(answer)
            with answer.kept():
                media, told = decode_speech(answer.body, answer.content_type, request.format or "mp3")
        return Generation((media,), model, None, answer.generation_id, warnings=(*told, UNPRICED))

    async def transcribe(self, model: str, request: TranscriptionRequest, exchange: Exchange) -> Transcript:
        """Words through POST /audio/transcriptions; times and speakers only from models that tell them."""
        form, left = form_of_transcription(model, request), self._deadlines.transcription
        with self._line.watching(model):
            try:
                answer = await self._line.post_form(
                    "/audio/transcriptions", form, exchange, deadline_s=left, awaited="the transcript"
                )
            except InvalidArgument as refusal:
                refusal.hint = NO_TIMES if FORM_WORDS.search(refusal.message) else refusal.hint
                raise
            decoded = await self._received.result(answer)
            with answer.kept():
                return decode_heard(decoded, model, answer.generation_id, (UNPRICED,))

    async def check_key(self) -> KeyStanding:
        """GET /models, which costs nothing; what a key has spent nobody says."""
        await self._received.result(await self._line.get_json("/models", deadline_s=self._deadlines.key))
        return KeyStanding()

    async def close(self) -> None:
        """Closes the line."""
        await self._line.close()

    async def _drawn(
        self, model: str, request: ImageRequest, exchange: Exchange, ask: Callable[..., Awaitable[Answer]]
    ) -> Generation:
        """Every picture that came whole, with a warning for each that did not; what came all the same is in `remains`.

        Base64 is asked for where a server may answer with links; one that knows no such wish says so, unpaid, and is
        asked once more without it.
        """
        until = anyio.current_time() + self._deadlines.image
        with self._line.watching(model):
            try:
                answer = await ask(as_base64=True, left=until - anyio.current_time())
            except InvalidArgument as refusal:
                if "response_format" not in refusal.message:
                    raise
                await exchange.again()
                answer = await ask(as_base64=False, left=until - anyio.current_time())
            decoded = await self._received.result(answer)
            with answer.kept():
                media, told, remains = await self._received.pictures(decoded)
        return Generation(
            media,
            model,
            generation_id=answer.generation_id,
            revised_prompt=_revised(decoded),
            warnings=(*unheard(request), *told),
            remains=remains,
        )

    async def _mask(self, request: EditRequest) -> bytes | None:
        """The mask as servers read one, made in a worker."""
        if request.mask is None or not request.images:
            return None
        return (await self._workers.run("clear_mask", {}, request.mask.data, request.images[0].data)).blobs[0]


def _revised(decoded: Json) -> str | None:
    """The prompt as the server rewrote it for the first picture."""
    data = decoded.get("data") if isinstance(decoded, dict) else None
    first = data[0] if isinstance(data, list) and data else None
    revised = first.get("revised_prompt") if isinstance(first, dict) else None
    return revised if isinstance(revised, str) and revised else None
