"""OpenRouter's wire: requests as its JSON, answers as ours; pure, no I/O. Facts of 2026-11-22."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..capabilities import EditRequest, ImageRequest, Segment, SpeechRequest, Transcript, TranscriptionRequest
from ..errors import InvalidArgument, Json, JsonObject
from ..formats import parse_media_type
from ..formats.wav import wrap
from ..media import Media, Pcm
from .http import malformed

PIXELS: Final = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})")
TIERS: Final = ("512", "768", "1K", "1.5K", "2K", "4K")
# Which routing preferences each endpoint takes; the others would be a 400.
IMAGE_PREFERENCES: Final = ("only", "order", "ignore", "sort", "allow_fallbacks", "options")
AUDIO_PREFERENCES: Final = ("zdr", "data_collection", "options")
HEARD: Final = {"audio/wav": "wav", "audio/mpeg": "mp3", "audio/webm": "webm", "audio/pcm": "wav", "audio/flac": "flac"}
HEARD_MORE: Final = {
    "audio/mp4": "m4a",
    "audio/m4a": "m4a",
    "audio/ogg": "ogg",
    "audio/opus": "ogg",
    "audio/aac": "aac",
}
FORMATS: Final = HEARD | HEARD_MORE
ASSUMED: Final = Pcm(24_000)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of an answer: its bytes and declared type, or the URL where it lies."""

    media: Media | None
    url: str | None = None


def preferred(preferences: Mapping[str, Json], taken: Sequence[str]) -> tuple[JsonObject, list[str]]:
    """The `provider` object with what the endpoint takes, and a warning for what it does not."""
    kept = {key: value for key, value in preferences.items() if key in taken}
    dropped = sorted(set(preferences) - set(kept))
    warnings = [f"This endpoint does not take the preferences {', '.join(dropped)}."] if dropped else []
    return ({"provider": kept} if kept else {}), warnings


def encode_image(model: str, request: ImageRequest, preferences: JsonObject) -> JsonObject:
    """The body of POST /images; refuses sizes that contradict each other or that nobody has."""
    body: JsonObject = {"model": model, "prompt": request.prompt, **_shape(request), **preferences}
    if request.count > 1:
        body["n"] = request.count
    if isinstance(request, EditRequest):
        if request.mask is not None:
            raise InvalidArgument(
                "OpenRouter has no masks.", hint="Describe in the prompt which part may change, or use the local route."
            )
        body["input_references"] = [
            {"type": "image_url", "image_url": {"url": data_url(image)}} for image in request.images
        ]
    wanted: dict[str, Json] = {
        "quality": request.quality,
        "background": request.background,
        "output_format": request.output_format,
        "seed": request.seed,
    }
    return body | {key: value for key, value in wanted.items() if value is not None}


def _shape(request: ImageRequest) -> JsonObject:
    """Size and aspect ratio: pixels stand alone, a tier goes with a ratio."""
    shape: JsonObject = {"aspect_ratio": request.aspect_ratio} if request.aspect_ratio else {}
    if not request.size:
        return shape
    if request.size.upper() in TIERS:
        return {**shape, "resolution": request.size.upper()}
    if not PIXELS.fullmatch(request.size):
        raise InvalidArgument("size is neither WxH nor a tier.", hint=f"Such as 1024x1024, or {', '.join(TIERS)}.")
    if shape:
        raise InvalidArgument("size in pixels and aspect_ratio exclude each other.", hint="Leave one of them out.")
    return {"size": request.size}


def data_url(media: Media) -> str:
    """The bytes as a data URL."""
    return f"data:{media.media_type};base64,{base64.b64encode(media.data).decode('ascii')}"


def decode_pictures(body: Json) -> tuple[Picture, ...]:
    """Every picture of an answer of POST /images; Unavailable where it holds none or one that is no base64."""
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list) or not data:
        raise malformed("The provider's answer holds no picture.")
    return tuple(_picture(entry) for entry in data)


def _picture(entry: Json) -> Picture:
    if not isinstance(entry, dict):
        raise malformed("A picture in the provider's answer has no known shape.")
    encoded, url = entry.get("b64_json"), entry.get("url")
    if isinstance(encoded, str) and encoded:
        # The declared type is not kept: providers pass on wrong ones, and the bytes say what they are.
        return Picture(Media(_unbase64(encoded.partition("base64,")[2] or encoded), ""))
    if isinstance(url, str) and url.startswith("data:"):
        return Picture(Media(_unbase64(url.partition("base64,")[2]), ""))
    if isinstance(url, str) and url:
        return Picture(None, url)
    raise malformed("A picture in the provider's answer has no bytes.")


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise malformed("A picture in the provider's answer is not base64.")
    return data


def cost_of(body: Json) -> float | None:
    """usage.cost in USD, where the answer says it."""
    usage = body.get("usage") if isinstance(body, dict) else None
    cost = usage.get("cost") if isinstance(usage, dict) else None
    return float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0 else None


def encode_speech(model: str, request: SpeechRequest, wire_format: str, preferences: JsonObject) -> JsonObject:
    """The body of POST /audio/speech."""
    body: JsonObject = {"model": model, "input": request.text, "response_format": wire_format, **preferences}
    wanted: dict[str, Json] = {
        "voice": request.voice or ("alloy" if model.startswith("openai/") else None),
        "speed": request.speed,
        "instructions": request.instructions or None,
    }
    return body | {key: value for key, value in wanted.items() if value is not None}


def decode_speech(body: bytes, content_type: str, wire_format: str, wanted: str | None) -> tuple[Media, list[str]]:
    """The sound of an answer: samples get their WAV header unless samples were asked for; what changed is told."""
    media_type, pcm = parse_media_type(content_type)
    if media_type not in ("audio/pcm", "audio/l16") and wire_format != "pcm":
        return Media(body, "audio/mpeg" if media_type in ("", "application/octet-stream") else ""), []
    if body.startswith((b"RIFF", b"ID3")):
        return Media(body, ""), []
    warnings = [] if pcm else ["The provider did not say the rate of its samples; 24 kHz mono is assumed."]
    samples, layout = body, pcm or ASSUMED
    if wanted == "pcm":
        return Media(samples, "audio/pcm", pcm=layout), warnings
    if wanted != "wav":
        warnings.append("This model gives only samples: WAV instead of mp3.")
    whole = samples[: len(samples) - len(samples) % layout.frame_bytes]
    return Media(wrap(whole, layout), "audio/wav"), warnings


def encode_transcription(model: str, request: TranscriptionRequest, preferences: JsonObject) -> JsonObject:
    """The body of POST /audio/transcriptions; refuses sound that the endpoint does not take.

    A vocabulary prompt has no field of its own there; it goes to each known provider's options.
    """
    audio = request.audio
    name = FORMATS.get(audio.media_type)
    if name is None:
        raise InvalidArgument(
            f"OpenRouter does not take {audio.media_type}.", hint=f"One of: {', '.join(sorted(FORMATS))}."
        )
    data = wrap(audio.data, audio.pcm or ASSUMED) if audio.media_type == "audio/pcm" else audio.data
    body: JsonObject = {"model": model, "input_audio": {"data": base64.b64encode(data).decode("ascii"), "format": name}}
    if request.language:
        body["language"] = request.language
    if request.timestamps != "none" or request.diarize:
        body["response_format"] = "verbose_json"
    if request.timestamps != "none":
        body["timestamp_granularities"] = ["segment", "word"] if request.timestamps == "word" else ["segment"]
    if request.diarize:
        body["diarize"] = True
    return body | _with_prompt(preferences, model, request.prompt)


def _with_prompt(preferences: JsonObject, model: str, prompt: str) -> JsonObject:
    if not prompt:
        return preferences
    provider = preferences.get("provider")
    given: JsonObject = provider if isinstance(provider, dict) else {}
    options = given.get("options")
    slug = model.split("/", 1)[0]
    return {
        "provider": {**given, "options": {**(options if isinstance(options, dict) else {}), slug: {"prompt": prompt}}}
    }


def decode_transcription(body: Json, model: str, generation_id: str | None) -> Transcript:
    """The transcript of an answer; Unavailable where it holds no text at all."""
    if not isinstance(body, dict) or not isinstance(body.get("text"), str):
        raise malformed("The provider's answer holds no transcript.")
    usage = body.get("usage")
    seconds = body.get("duration") or (usage.get("seconds") if isinstance(usage, dict) else None)
    language = body.get("language")
    return Transcript(
        text=str(body["text"]).strip(),
        model=model,
        language=language if isinstance(language, str) else None,
        duration_s=float(seconds) if isinstance(seconds, int | float) else None,
        segments=_segments(body.get("segments"), "text"),
        words=_segments(body.get("words"), "word"),
        cost_usd=cost_of(body),
        generation_id=generation_id,
    )


def _segments(entries: Json, key: str) -> tuple[Segment, ...]:
    if not isinstance(entries, list):
        return ()
    found = (_segment(entry, key) for entry in entries)
    return tuple(segment for segment in found if segment is not None)


def _segment(entry: Json, key: str) -> Segment | None:
    if not isinstance(entry, dict):
        return None
    start, end, text = entry.get("start"), entry.get("end"), entry.get(key)
    if not isinstance(start, int | float) or not isinstance(end, int | float) or not isinstance(text, str):
        return None
    speaker = entry.get("speaker_label", entry.get("speaker"))
    return Segment(float(start), float(end), text.strip(), None if speaker is None else str(speaker))
