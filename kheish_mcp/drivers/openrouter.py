"""OpenRouter: images, edits, speech and transcription through its own endpoints for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from ..capabilities import (
    AudioGeneration,
    Driver,
    EditRequest,
    Exchange,
    Generation,
    ImageEdit,
    ImageGeneration,
    ImageRequest,
    ModelCard,
    MultimodalInput,
    SpeechRequest,
    Transcript,
    Transcription,
    TranscriptionRequest,
)
from ..errors import InvalidArgument, Json
from ..media import Media
from .http import Answer, Endpoint, Line, malformed
from .openrouter_codec import (
    AUDIO_PREFERENCES,
    IMAGE_PREFERENCES,
    cost_of,
    decode_pictures,
    decode_speech,
    decode_transcription,
    encode_image,
    encode_speech,
    encode_transcription,
    preferred,
)

IMAGE_S, SPEECH_S, TRANSCRIPTION_S = 300.0, 120.0, 90.0
PICTURE_MODELS: Final = ("google/gemini-3.1-flash-image-preview", "openai/gpt-image-2", "openai/gpt-5-image-mini")
SPEECH_MODELS: Final = ("openai/gpt-4o-mini-tts-2025-12-15",)
TRANSCRIPTION_MODELS: Final = ("openai/gpt-4o-mini-transcribe",)
VOICES: Final = ("alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse")
WIRE_FORMATS: Final = {None: "mp3", "mp3": "mp3", "wav": "pcm", "pcm": "pcm"}


class OpenRouter(Driver, MultimodalInput, ImageGeneration, ImageEdit, AudioGeneration, Transcription):
    """One route to OpenRouter, or to a server that speaks its dialect."""

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

    def __init__(self, endpoint: Endpoint) -> None:
        self._line = Line(endpoint)

    def models(self) -> tuple[ModelCard, ...]:
        """The models that are used when none is named."""
        pictures = ("image_generation", "image_edit")
        sizes, formats = ("1K", "2K", "4K", "WxH"), ("png", "jpeg", "webp")
        return (
            *(ModelCard(model, pictures, sizes=sizes, formats=formats) for model in PICTURE_MODELS),
            *(ModelCard(model, ("audio_generation",), VOICES, (), ("mp3", "wav", "pcm")) for model in SPEECH_MODELS),
            *(ModelCard(model, ("transcription",)) for model in TRANSCRIPTION_MODELS),
        )

    async def generate_image(self, model: str, request: ImageRequest, exchange: Exchange) -> Generation:
        """Pictures through POST /images; the answer may hold fewer or more than asked."""
        preferences, warnings = preferred(self._line.endpoint.preferences, IMAGE_PREFERENCES)
        body = encode_image(model, request, preferences)
        answer = await self._line.post("/images", body, exchange, deadline_s=IMAGE_S)
        decoded = await answer.json()
        self._refuse_inside(decoded)
        media = [picture.media or await self._fetched(picture.url) for picture in decode_pictures(decoded)]
        return Generation(tuple(media), model, cost_of(decoded), answer.generation_id, warnings=tuple(warnings))

    async def edit_image(self, model: str, request: EditRequest, exchange: Exchange) -> Generation:
        """As generate_image, with the pictures as references in order."""
        return await self.generate_image(model, request, exchange)

    async def generate_audio(self, model: str, request: SpeechRequest, exchange: Exchange) -> Generation:
        """Speech through POST /audio/speech, which gives mp3 or samples and nothing else; its cost comes later."""
        wire_format = _wire_format(model, request.format)
        try:
            answer = await self._spoken(model, request, wire_format, exchange)
        except InvalidArgument as refusal:
            # A model that gives only samples says so with a 400, which is not billed.
            if wire_format == "pcm" or "format" not in refusal.message.lower():
                raise
            wire_format = "pcm"
            answer = await self._spoken(model, request, wire_format, exchange)
        if "json" in answer.content_type:
            decoded = await answer.json()
            self._refuse_inside(decoded)
            raise malformed("The provider answered with words instead of sound.")
        media, warnings = decode_speech(answer.body, answer.content_type, wire_format, request.format)
        _, dropped = preferred(self._line.endpoint.preferences, AUDIO_PREFERENCES)
        told = (*dropped, *warnings, "The cost of speech is known a little later; see `kheish-daemon costs`.")
        return Generation((media,), model, None, answer.generation_id, warnings=told)

    async def transcribe(self, model: str, request: TranscriptionRequest, exchange: Exchange) -> Transcript:
        """Words through POST /audio/transcriptions."""
        preferences, _ = preferred(self._line.endpoint.preferences, AUDIO_PREFERENCES)
        body = encode_transcription(model, request, preferences)
        answer = await self._line.post("/audio/transcriptions", body, exchange, deadline_s=TRANSCRIPTION_S)
        decoded = await answer.json()
        self._refuse_inside(decoded)
        return decode_transcription(decoded, model, answer.generation_id)

    async def close(self) -> None:
        """Closes the line."""
        await self._line.close()

    async def _spoken(self, model: str, request: SpeechRequest, wire_format: str, exchange: Exchange) -> Answer:
        preferences, _ = preferred(self._line.endpoint.preferences, AUDIO_PREFERENCES)
        body = encode_speech(model, request, wire_format, preferences)
        return await self._line.post("/audio/speech", body, exchange, deadline_s=SPEECH_S)

    async def _fetched(self, url: str | None) -> Media:
        answer = await self._line.fetch(url or "", deadline_s=IMAGE_S)
        return Media(answer.body, "")

    def _refuse_inside(self, body: Json) -> None:
        refusal = self._line.refused_inside(body)
        if refusal is not None:
            raise refusal


def _wire_format(model: str, wanted: str | None) -> str:
    """mp3 or pcm; Google's speech models give only samples."""
    if wanted not in WIRE_FORMATS:
        raise InvalidArgument(f"OpenRouter gives no {wanted}.", hint="Ask for mp3, wav or pcm.")
    return "pcm" if model.startswith("google/") and "tts" in model else WIRE_FORMATS[wanted]
