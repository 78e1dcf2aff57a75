"""Sound from models that chat: speech as samples, music as a file; pure, no I/O. Facts of 2026-11-22."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...capabilities import SpeechRequest
from ...errors import InvalidArgument, Json, JsonObject
from ...media import Media
from ..refusals import malformed
from .codec import decode_speech, without_empty

VERBATIM: Final = (
    "You are a voice. Say the user's message aloud word for word, in its own language. Answer nothing in it, add nothing,"
    " leave nothing out."
)
WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a family of models is asked for sound: the wire's word for each format, and the type of what comes then.

    `gives` are the formats that it has, `voice` is asked for where none is named, `system` tells the model what to do,
    `longest` is in characters, `note` says how to prompt it.
    """

    gives: tuple[str, ...]
    formats: Mapping[str | None, str]
    media_types: Mapping[str, str]
    voice: str | None
    system: str
    longest: int
    verbatim: bool
    note: str | None = None


# While it streams, it gives samples and nothing else; they are 16 bits, mono.
SPEECH: Final = Manner(
    gives=("wav", "pcm"),
    formats={None: "pcm16", "mp3": "pcm16", "wav": "pcm16", "pcm": "pcm16"},
    media_types={"pcm16": "audio/pcm;rate=24000;channels=1"},
    voice="alloy",
    system=VERBATIM,
    longest=2000,
    verbatim=True,
)
# One song a request: its description is never split.
MUSIC: Final = Manner(
    gives=("mp3", "wav"),
    formats={None: "mp3", "mp3": "mp3", "wav": "wav"},
    media_types={"mp3": "audio/mpeg", "wav": "audio/wav"},
    voice=None,
    system="",
    longest=200_000,
    verbatim=False,
    note="It plays: describe the music, and give the words that are to be sung.",
)
# The models of these families, where the provider's own list is not known.
FAMILIES: Final = {"openai/gpt-audio": SPEECH, "openai/gpt-4o-audio": SPEECH, "google/lyria-": MUSIC}


def manner_of(model: str, outputs: Sequence[str]) -> Manner | None:
    """How `model` is asked for sound in a chat; None for a model with an endpoint of its own for that, or without sound.

    `outputs` are its modalities, none where the provider's list is not known.
    """
    family = next((manner for prefix, manner in FAMILIES.items() if model.removeprefix("~").startswith(prefix)), None)
    if not outputs:
        return family
    return (family or SPEECH) if "audio" in outputs and "speech" not in outputs else None


def encode_sound(manner: Manner, model: str, request: SpeechRequest, provider: JsonObject) -> JsonObject:
    """The body of POST /chat/completions for sound; InvalidArgument for a format that the family does not give."""
    if request.format not in manner.formats:
        formats = ", ".join(filter(None, manner.formats))
        raise InvalidArgument(f"{model} gives no {request.format}.", hint=f"Ask for one of: {formats}.")
    system = " ".join(filter(None, (manner.system, request.instructions if manner.system else "")))
    text = request.text if manner.system or not request.instructions else f"{request.text}\n\n{request.instructions}"
    told: JsonObject = {"voice": request.voice or manner.voice, "format": manner.formats[request.format]}
    turns = (("system", system), ("user", text))
    messages: list[Json] = [{"role": role, "content": content} for role, content in turns if content]
    return without_empty(
        {
            "model": model,
            "messages": messages,
            "modalities": ["text", "audio"],
            "audio": without_empty(told),
            "stream": True,
            "provider": provider or None,
        }
    )


def decode_sound(manner: Manner, data: bytes, request: SpeechRequest, transcript: str) -> tuple[Media, tuple[str, ...]]:
    """The sound of an answer, and warnings for what is not as asked; Unavailable where none came."""
    if not data:
        raise malformed("The model answered in words instead of sound.")
    wire = manner.formats[request.format]
    media, told = decode_speech(data, manner.media_types[wire], wire.removesuffix("16"), request.format)
    warnings = {
        "This model has no speed: it speaks at its own.": request.speed not in (None, 1),
        "The model did not keep to the text: the transcript is what it said.": manner.verbatim
        and bool(transcript)
        and _spoken(transcript) != _spoken(request.text),
    }
    return media, (*told, *(warning for warning, holds in warnings.items() if holds))


def _spoken(text: str) -> list[str]:
    """The words that are heard of a text, whatever stands between them."""
    return WORD.findall(text.casefold())
