"""POST /audio/speech: raw bytes, no cost in the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.emulators.provider import synthetic
from tests.emulators.provider.answers import Answer, Asked, Refused
from tests.emulators.provider.catalogue import Model, find
from tests.emulators.provider.wire import SpeechRequest, parse

if TYPE_CHECKING:
    from tests.emulators.provider.emulator import OpenRouterEmulator

LONGEST = 4096
PCM = "audio/pcm;rate=24000;channels=1"


async def speak(emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """A tone as long as the text, as MPEG frames or as samples."""
    request = parse(SpeechRequest, asked.body)
    model = find(request.model, "speech")
    check_text(request, model)
    if request.response_format not in model.formats:
        raise Refused(400, f"response_format {request.response_format} is unsupported by {model.id}; use pcm")
    length = sum(len(text) for text, _ in request.turns())
    body = synthetic.mp3(length) if request.response_format == "mp3" else synthetic.tone(length)
    return Answer(
        body=body,
        media_type="audio/mpeg" if request.response_format == "mp3" else PCM,
        model=request.model,
        cost=round(model.cost * length, 9),
        generation_id=emulator.next_id("gen-tts"),
    )


def check_text(request: SpeechRequest, model: Model) -> None:
    """Short enough, turns only where they are known, every voice one of the model's."""
    if not isinstance(request.input, str) and not model.turns:
        raise Refused(400, f"{model.id} takes input as one string")
    if request.input_references:
        raise Refused(404, "No endpoints found that support voice cloning")
    if sum(len(text) for text, _ in request.turns()) > LONGEST:
        raise Refused(400, f"input is longer than {LONGEST} characters", error_type="string_too_long")
    for _, voice in request.turns():
        if voice is None:
            raise Refused(400, f"voice is required by {model.id}")
        if voice not in model.voices:
            raise Refused(400, f"voice: expected one of {', '.join(model.voices)}")
