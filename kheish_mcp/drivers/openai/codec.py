"""The wire of OpenAI and of servers like it: requests as its JSON and forms, answers as ours; pure, no I/O.

Facts of 2026-11: OpenAI's own API (openai-python 3.54), sd-server, LocalAI, vLLM-Omni, speaches, Kokoro-FastAPI.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from ...capabilities import EditRequest, ImageRequest, Segment, SpeechRequest, Transcript, TranscriptionRequest
from ...conversation import ChatRequest
from ...errors import InvalidArgument, Json, JsonObject
from ...formats import FORMATS, extension_of, parse_media_type
from ...formats.pcm import with_header
from ...formats.recognition import HEADERLESS
from ...media import Kind, Media, Pcm
from ..forms import Field, text
from ..openrouter.chat import encode_chat
from ..openrouter.codec import PIXELS, as_declared, decode_transcription, without_empty
from ..refusals import malformed

# Its own picture models give base64 and refuse to be asked for it; others would answer with a link.
GIVES_BASE64: Final = re.compile(r"(?:^|/)(?:chat)?gpt-image", re.IGNORECASE)
# sd-server takes arguments of its own out of the prompt, whoever wrote that.
ARGUMENTS: Final = re.compile(r"<sd_cpp_extra_args>.*?(?:</sd_cpp_extra_args>|$)", re.IGNORECASE | re.DOTALL)
RATIO: Final = re.compile(r"(\d{1,4}(?:\.\d{1,4})?):(\d{1,4}(?:\.\d{1,4})?)")
AREAS: Final = {"": 1024 * 1024, "1K": 1024 * 1024, "2K": 2048 * 2048, "4K": 3840 * 2160}
LONGEST_SIDE, STEP, FLATTEST = 3840, 16, 3.0
EDITABLE: Final = ("image/png", "image/jpeg", "image/webp")
MOST_PICTURES: Final = 16
LARGEST_PICTURE, LARGEST_SOUND = 50 << 20, 25 << 20

SPOKEN: Final[dict[str, tuple[str, ...]]] = {
    "mp3": ("audio/mpeg",), "wav": ("audio/wav",), "pcm": ("audio/pcm",), "flac": ("audio/flac",),
    "opus": ("audio/opus", "audio/ogg"),
}  # fmt: skip
SAID_NOTHING: Final = ("", "application/octet-stream", "binary/octet-stream")
ASSUMED: Final = Pcm(24_000)
HAS_ALLOY: Final = re.compile(r"(?:^|/)(?:gpt-|tts-)", re.IGNORECASE)

HEARD: Final = {
    "audio/wav": "wav", "audio/mpeg": "mp3", "audio/flac": "flac", "audio/webm": "webm", "audio/ogg": "ogg",
    "audio/opus": "ogg", "audio/mp4": "m4a", "audio/m4a": "m4a", "audio/mpga": "mp3",
    **dict.fromkeys(HEADERLESS, "wav"),
}  # fmt: skip
LONGEST_RECORDING_S: Final = 1e6  # LocalAI counts in nanoseconds


def encode_drawing(model: str, request: ImageRequest, *, as_base64: bool) -> JsonObject:
    """The body of POST /images/generations; refuses a shape that no picture there can have."""
    return without_empty({"model": model, **_drawing(model, request, as_base64=as_base64)})


def form_of_edit(model: str, request: EditRequest, mask: bytes | None, *, as_base64: bool) -> tuple[Field, ...]:
    """The fields of POST /images/edits, the subject first; `mask` is a PNG that is clear where it may change.

    Refuses with InvalidArgument no pictures or more than 16, other types than PNG, JPEG and WebP, and 50 MB or more.
    """
    if not 1 <= len(request.images) <= MOST_PICTURES:
        raise InvalidArgument(f"An edit takes 1 to {MOST_PICTURES} pictures.", hint="Name the pictures to work from.")
    name = "image" if len(request.images) == 1 else "image[]"
    pictures = [_picture(name, place, image) for place, image in enumerate(request.images, 1)]
    masks = [Field("mask", mask, "mask.png", "image/png")] if mask is not None else []
    told = without_empty({"model": model, **_drawing(model, request, as_base64=as_base64)})
    return (*(text(key, str(value)) for key, value in told.items()), *pictures, *masks)


def unheard(request: ImageRequest) -> tuple[str, ...]:
    """Warnings for what was asked and has no word there."""
    seed = "OpenAI's dialect has no seed: it had no effect."
    cut = "The prompt held arguments for the server itself, which were taken out."
    return tuple(
        told for told, holds in ((seed, request.seed is not None), (cut, ARGUMENTS.search(request.prompt))) if holds
    )


def _drawing(model: str, request: ImageRequest, *, as_base64: bool) -> JsonObject:
    """What generations and edits are asked alike."""
    return {
        "prompt": ARGUMENTS.sub("", request.prompt),
        "n": request.count if request.count > 1 else None,
        "size": _size(request),
        "quality": request.quality,
        "background": request.background,
        "output_format": request.output_format,
        "response_format": "b64_json" if as_base64 and not GIVES_BASE64.search(model) else None,
    }


def _size(request: ImageRequest) -> str | None:
    """Pixels, the only size there is: as asked, else what a tier and a ratio come to; None leaves it to the model."""
    size, ratio = request.size, request.aspect_ratio.removeprefix("auto")
    if PIXELS.fullmatch(size) or size == "auto":
        if ratio:
            raise InvalidArgument("size in pixels and aspect_ratio exclude each other.", hint="Leave one of them out.")
        return size
    if size.upper() not in AREAS:
        raise InvalidArgument("size is neither WxH nor a tier.", hint="Such as 1024x1024, or 1K, 2K, 4K.")
    return _pixels(ratio or "1:1", AREAS[size.upper()]) if size or ratio else None


def _pixels(ratio: str, area: int) -> str:
    """A size of that ratio and about that area, in steps of 16 and no side over 3840."""
    match = RATIO.fullmatch(ratio)
    wide, high = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    if not wide or not high or max(wide / high, high / wide) > FLATTEST:
        raise InvalidArgument("aspect_ratio is not from 1:3 to 3:1.", hint="Such as 16:9, 1:1 or 9:16.")
    width, height = math.sqrt(area * wide / high), math.sqrt(area * high / wide)
    fit = min(1.0, LONGEST_SIDE / max(width, height))
    return f"{int(width * fit) // STEP * STEP}x{int(height * fit) // STEP * STEP}"


def _picture(name: str, place: int, image: Media) -> Field:
    if image.media_type not in EDITABLE:
        raise InvalidArgument(
            f"OpenAI does not take {image.media_type} as a picture to work from.",
            hint=f"One of: {', '.join(EDITABLE)}.",
        )
    if len(image.data) >= LARGEST_PICTURE:
        raise InvalidArgument("A picture to work from has less than 50 MB.", hint="Send a smaller one.")
    return Field(name, image.data, f"image-{place}.{extension_of(image.media_type)}", image.media_type)


def encode_plainly(
    model: str, request: ChatRequest, preferences: Mapping[str, Json]
) -> tuple[JsonObject, tuple[str, ...]]:
    """The body of POST /chat/completions in OpenAI's own words, and warnings for what has none there."""
    body = encode_chat(model, replace(request, fallbacks=(), effort=None), {})
    messages = body.get("messages")
    plain: list[Json] = [_plain(message) for message in messages] if isinstance(messages, list) else []
    effort: JsonObject = {"reasoning_effort": request.effort} if request.effort else {}
    told = "OpenAI's dialect takes no preferences: those of the route had no effect."
    usage: JsonObject = {"include_usage": True}
    return {**body, "messages": plain, "stream_options": usage, **effort}, (told,) if preferences else ()


def _plain(message: Json) -> Json:
    """A message without what only OpenRouter keeps of a model's turn."""
    fields = message.items() if isinstance(message, dict) else ()
    return {key: value for key, value in fields if key not in ("images", "reasoning_details")}


def encode_speech(model: str, request: SpeechRequest) -> JsonObject:
    """The body of POST /audio/speech; a voice is only guessed for models that are OpenAI's own."""
    return without_empty(
        {
            "model": model,
            "input": request.text,
            "response_format": request.format or "mp3",
            "voice": request.voice or ("alloy" if HAS_ALLOY.search(model) else None),
            "speed": request.speed,
            "instructions": request.instructions or None,
        }
    )


def decode_speech(body: bytes, content_type: str, wanted: str) -> tuple[Media, tuple[str, ...]]:
    """The sound of an answer, and warnings for what is not as asked; Unavailable where it is no sound at all."""
    claimed, pcm = parse_media_type(content_type)
    media_type = SPOKEN[wanted][0] if claimed in SAID_NOTHING else claimed
    if not media_type.startswith("audio/"):
        raise malformed("The provider's answer holds no sound.")
    found = next((form.media_type for form in FORMATS if form.sniff is not None and form.sniff(body)), media_type)
    if found == "audio/pcm":
        return _samples(body, pcm)
    told = () if found in SPOKEN[wanted] else (f"The provider gave {found} instead of {wanted}.",)
    return as_declared(body, media_type, Kind.AUDIO), told


def _samples(body: bytes, pcm: Pcm | None) -> tuple[Media, tuple[str, ...]]:
    """Bare samples in the layout that was declared, else 24 kHz mono with a warning."""
    layout = pcm or ASSUMED
    whole = body[: len(body) - len(body) % layout.frame_bytes]
    if not whole:
        raise malformed("The provider's answer holds no sound.")
    told = "The provider did not say the rate of its samples; 24 kHz mono is assumed."
    return Media(whole, "audio/pcm", pcm=layout), () if pcm else (told,)


def form_of_transcription(model: str, request: TranscriptionRequest) -> tuple[Field, ...]:
    """The fields of POST /audio/transcriptions; refuses sound that it does not take, and more than 25 MB of it."""
    fields = {
        "model": model,
        "language": request.language,
        "prompt": request.prompt,
        "response_format": _wanted(request),
        "chunking_strategy": "auto" if request.diarize else "",
    }
    granularities = {"segment": ("segment",), "word": ("segment", "word")}.get(request.timestamps, ())
    fine = granularities if not request.diarize else ()
    times = (text("timestamp_granularities[]", granularity) for granularity in fine)
    return (*(text(key, value) for key, value in fields.items() if value), *times, _sound(request.audio))


def _wanted(request: TranscriptionRequest) -> str:
    """The form of the answer: only one has speakers, only one has times."""
    if request.diarize:
        return "diarized_json"
    return "json" if request.timestamps == "none" else "verbose_json"


def _sound(audio: Media) -> Field:
    ending = HEARD.get(audio.media_type)
    if ending is None:
        raise InvalidArgument(
            f"OpenAI does not transcribe {audio.media_type}.", hint=f"One of: {', '.join(sorted(HEARD))}."
        )
    data, media_type = with_header(audio), "audio/wav" if audio.media_type in HEADERLESS else audio.media_type
    if len(data) > LARGEST_SOUND:
        raise InvalidArgument("OpenAI takes at most 25 MB of sound.", hint="Send a shorter or a compressed recording.")
    return Field("file", data, f"audio.{ending}", media_type)


def decode_heard(body: Json, model: str, generation_id: str | None, warnings: tuple[str, ...]) -> Transcript:
    """The transcript of an answer in any of its forms; Unavailable where it holds no text at all."""
    heard = decode_transcription(body, model, generation_id, warnings)
    if not any(segment.end > LONGEST_RECORDING_S for segment in (*heard.segments, *heard.words)):
        return heard
    return replace(heard, segments=_in_seconds(heard.segments), words=_in_seconds(heard.words))


def _in_seconds(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    return tuple(replace(segment, start=segment.start / 1e9, end=segment.end / 1e9) for segment in segments)
