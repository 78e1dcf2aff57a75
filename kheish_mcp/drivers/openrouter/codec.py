"""OpenRouter's wire: requests as its JSON, answers as ours; pure, no I/O. Facts of 2026-11-22."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ...capabilities import EditRequest, ImageRequest, Segment, SpeechRequest, Transcript, TranscriptionRequest
from ...errors import InvalidArgument, Json, JsonObject
from ...formats import FORMATS, parse_media_type
from ...formats.pcm import in_our_order, with_header
from ...formats.recognition import HEADERLESS
from ...formats.wav import wrap
from ...media import Kind, Media, Pcm
from ..refusals import malformed, number

# Which routing preferences each endpoint takes; the others would be a 400.
IMAGE_PREFERENCES: Final = ("only", "order", "ignore", "sort", "allow_fallbacks", "options")
AUDIO_PREFERENCES: Final = ("zdr", "data_collection", "options")

PIXELS: Final = re.compile(r"[1-9]\d{1,4}x[1-9]\d{1,4}")
TIERS: Final = ("512", "768", "1K", "1.5K", "2K", "4K")
REFERENCES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")
MOST_REFERENCES: Final = 16
LARGEST_MEDIA: Final = 48 << 20  # 64 MiB as base64

SPEECH_WIRE: Final[dict[str | None, str]] = {None: "mp3", "mp3": "mp3", "wav": "pcm", "pcm": "pcm"}
SLOWEST, FASTEST = 0.25, 4.0
SAID_NOTHING: Final = ("", "application/octet-stream", "binary/octet-stream")
ASSUMED: Final = Pcm(24_000)

HEARD: Final = {
    "audio/wav": "wav", "audio/mpeg": "mp3", "audio/flac": "flac", "audio/webm": "webm", "audio/aac": "aac",
    "audio/ogg": "ogg", "audio/opus": "ogg", "audio/mp4": "m4a", "audio/m4a": "m4a", "audio/mpga": "mp3",
    **dict.fromkeys(HEADERLESS, "wav"),
}  # fmt: skip
HEARD_BARE: Final = Pcm(16_000)
# Whose own API has a prompt: the endpoint has none, and forwards each provider's options only to that provider.
PROMPTED: Final = ("openai", "groq", "together", "assemblyai")


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of an answer: its bytes, or the URL where it lies, or why it is neither and what came instead."""

    media: Media | None = None
    url: str = ""
    trouble: str = ""
    remains: bytes = b""


def preferred(preferences: Mapping[str, Json], taken: Sequence[str]) -> tuple[JsonObject, tuple[str, ...]]:
    """The `provider` object, empty where nothing is left of it, and a warning for what the endpoint does not take."""
    kept = {key: value for key, value in preferences.items() if key in taken}
    dropped = sorted(set(preferences) - set(kept))
    told = (
        f"This endpoint of OpenRouter does not take the route's preferences {', '.join(dropped)}: they had no effect."
    )
    return kept, (told,) if dropped else ()


def encode_image(model: str, request: ImageRequest, provider: JsonObject) -> JsonObject:
    """The body of POST /images, for generation and for edits alike.

    Refuses with InvalidArgument what the endpoint has no word for (a mask, pictures of other types, more than 16 of them)
    and sizes that contradict each other; what is not asked for is left to the model.
    """
    return without_empty(
        {
            "model": model,
            "prompt": request.prompt,
            **_shape(request),
            "n": request.count if request.count > 1 else None,
            "quality": request.quality,
            "background": request.background,
            "output_format": request.output_format,
            "seed": request.seed,
            "input_references": _references(request) if isinstance(request, EditRequest) else None,
            "provider": provider or None,
        }
    )


def _shape(request: ImageRequest) -> JsonObject:
    """Size and aspect ratio: a tier goes with a ratio, pixels stand alone."""
    # Pixels beside a ratio or a resolution are a 400 there, even where they agree.
    size, ratio = request.size, request.aspect_ratio or None
    if not size or size.upper() in TIERS:
        return {"resolution": size.upper() or None, "aspect_ratio": ratio}
    if not PIXELS.fullmatch(size):
        raise InvalidArgument("size is neither WxH nor a tier.", hint=f"Such as 1024x1024, or {', '.join(TIERS)}.")
    if ratio:
        raise InvalidArgument("size in pixels and aspect_ratio exclude each other.", hint="Leave one of them out.")
    return {"size": size}


def _references(request: EditRequest) -> list[Json]:
    """The pictures to work from, the subject first, as data URLs."""
    if request.mask is not None:
        raise InvalidArgument(
            "OpenRouter takes no mask.", hint="Say in the prompt which part may change, or use the local route."
        )
    if not 1 <= len(request.images) <= MOST_REFERENCES:
        raise InvalidArgument(f"An edit takes 1 to {MOST_REFERENCES} pictures.", hint="Name the pictures to work from.")
    for image in request.images:
        if image.media_type not in REFERENCES:
            raise InvalidArgument(
                f"OpenRouter does not take {image.media_type} as a picture to work from.",
                hint=f"One of: {', '.join(REFERENCES)}.",
            )
    check_bytes(request.images)
    urls = (f"data:{image.media_type};base64,{base64_of(image.data)}" for image in request.images)
    return [{"type": "image_url", "image_url": {"url": url}} for url in urls]


def decode_pictures(body: Json) -> tuple[Picture, ...]:
    """Every picture of an answer of POST /images, in order; Unavailable where it lists none.

    A picture that cannot be read is an entry with its trouble, so that the others, which are paid for, are kept.
    """
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list) or not data:
        raise malformed("The provider's answer holds no picture.")
    return tuple(picture_of(entry) for entry in data)


def picture_of(entry: Json) -> Picture:
    """One entry of `data`: b64_json, else a data URL, else a URL that somebody has to fetch."""
    if not isinstance(entry, dict):
        return Picture(trouble="A picture in the provider's answer has no known shape.")
    encoded, url = entry.get("b64_json"), entry.get("url")
    if not isinstance(encoded, str) or not encoded:
        if not isinstance(url, str) or not url:
            return Picture(trouble="A picture in the provider's answer has no bytes.")
        if not url.startswith("data:"):
            return Picture(url=url)
        encoded = url
    data = bytes_of(encoded)
    if not data:
        trouble = "A picture in the provider's answer is not base64."
        return Picture(trouble=trouble, remains=encoded.encode("utf-8", "replace"))
    claim = entry.get("media_type")
    return Picture(as_declared(data, claim if isinstance(claim, str) and claim else "image/png", Kind.IMAGE))


def bytes_of(text: str) -> bytes:
    """The bytes of a base64 text or data URL; none where it is not strictly that."""
    try:
        # Without base64.b64decode, which copies the text first: it may hold 60 MB.
        return binascii.a2b_base64(text.partition(",")[2] if text.startswith("data:") else text, strict_mode=True)
    except ValueError:
        return b""


def as_declared(data: bytes, claim: str, kind: Kind) -> Media:
    """The bytes without a claim where their signature says what they are, else with it.

    Providers name the wrong type often enough, so a signature counts; but where there is none, the claim is what keeps
    an error page from passing as a text.
    """
    signed = any(form.kind is kind and form.sniff is not None and form.sniff(data) for form in FORMATS)
    return Media(data, "" if signed else claim)


def cost_of(body: Json) -> float | None:
    """usage.cost in USD, where the answer says it."""
    usage = body.get("usage") if isinstance(body, dict) else None
    return number(usage.get("cost")) if isinstance(usage, dict) else None


def speech_wire(model: str, wanted: str | None) -> str:
    """mp3 or pcm, the only formats there are; Google's speech models give pcm alone."""
    if wanted not in SPEECH_WIRE:
        raise InvalidArgument(f"OpenRouter gives no {wanted}.", hint="Ask for mp3, wav or pcm.")
    return "pcm" if model.startswith("google/") and "tts" in model else SPEECH_WIRE[wanted]


def encode_speech(model: str, request: SpeechRequest, wire: str, provider: JsonObject) -> JsonObject:
    """The body of POST /audio/speech. Only OpenAI's voices are known here; other providers say what they need."""
    if request.speed is not None and not SLOWEST <= request.speed <= FASTEST:
        raise InvalidArgument(f"speed is not within {SLOWEST} and {FASTEST:g}.", hint="1 is the voice's own speed.")
    return without_empty(
        {
            "model": model,
            "input": request.text,
            "response_format": wire,
            "voice": request.voice or ("alloy" if model.startswith("openai/") else None),
            "speed": request.speed,
            "instructions": request.instructions or None,
            "provider": provider or None,
        }
    )


def decode_speech(body: bytes, content_type: str, wire: str, wanted: str | None) -> tuple[Media, tuple[str, ...]]:
    """The sound of an answer, and warnings for what is not as asked.

    Samples become a WAV unless samples were asked for. Unavailable where the Content-Type is that of something else.
    """
    media_type, pcm = parse_media_type(content_type)
    if media_type in SAID_NOTHING:
        media_type = "audio/pcm" if wire == "pcm" else "audio/mpeg"
    if not media_type.startswith("audio/"):
        raise malformed("The provider's answer holds no sound.")
    media, is_wav = as_declared(body, media_type, Kind.AUDIO), body.startswith(b"RIFF")
    # Gateways have named whole files samples: a WAV where samples were asked, an mp3 where that was. Both would be noise.
    is_file = is_wav or (wire == "mp3" and not media.media_type)
    if media_type == "audio/pcm" and not is_file:
        return samples_of(body, pcm, wanted)
    told = f"The provider gave a file of its own choice instead of {wanted}."
    kept = wanted in (None, "mp3") or (wanted == "wav" and is_wav)
    return replace(media, pcm=None if is_file else pcm), () if kept else (told,)


def samples_of(body: bytes, pcm: Pcm | None, wanted: str | None) -> tuple[Media, tuple[str, ...]]:
    """Bare samples as asked: 16 bits, little-endian, in the layout that was declared, or 24 kHz mono with a warning."""
    layout = pcm or ASSUMED
    whole = body[: len(body) - len(body) % layout.frame_bytes]
    if not whole:
        raise malformed("The provider's answer holds no sound.")
    told = {
        "The provider did not say the rate of its samples; 24 kHz mono is assumed.": pcm is None,
        "The sound ended within a sample: its end may be missing.": len(whole) < len(body),
        "This model gives only samples: a WAV instead of an mp3.": wanted == "mp3",
    }
    media = Media(whole, "audio/pcm", pcm=layout) if wanted == "pcm" else Media(wrap(whole, layout), "audio/wav")
    return media, tuple(warning for warning, holds in told.items() if holds)


def encode_transcription(
    model: str, request: TranscriptionRequest, provider: JsonObject
) -> tuple[JsonObject, tuple[str, ...]]:
    """The body of POST /audio/transcriptions, and warnings; refuses sound that it does not take.

    `prompt` has no field there. It goes into the options of each provider that is known to have one, of which
    OpenRouter forwards those of the provider that it picks and drops the others; a model of another vendor is warned of.
    """
    fine = request.timestamps != "none" or request.diarize
    granularities: dict[str, list[Json]] = {"segment": ["segment"], "word": ["segment", "word"]}
    body: JsonObject = {
        "model": model,
        "input_audio": _input_audio(request.audio),
        "language": request.language or None,
        "response_format": "verbose_json" if fine else None,
        "timestamp_granularities": granularities.get(request.timestamps),
        "diarize": request.diarize or None,
        "provider": _with_prompt(provider, request.prompt) or None,
    }
    deaf = bool(request.prompt) and model.lstrip("~").split("/")[0] not in PROMPTED
    told = f"prompt reaches only the providers {', '.join(PROMPTED)}; another one does not see it."
    return without_empty(body), (told,) if deaf else ()


def _input_audio(audio: Media) -> JsonObject:
    """The sound as bare base64 under the provider's name for its format; samples of an odd layout go as a WAV."""
    name = HEARD.get(audio.media_type)
    if name is None:
        raise InvalidArgument(
            f"OpenRouter does not transcribe {audio.media_type}.", hint=f"One of: {', '.join(sorted(HEARD))}."
        )
    check_bytes((audio,))
    if audio.media_type in HEADERLESS and audio.pcm == HEARD_BARE:
        return {"data": base64_of(in_our_order(audio)), "format": "pcm"}
    return {"data": base64_of(with_header(audio)), "format": name}


def _with_prompt(provider: JsonObject, prompt: str) -> JsonObject:
    """The `provider` object with the prompt in the options, beside those that the route gives."""
    if not prompt:
        return provider
    options = table_of(provider.get("options"))
    prompted: JsonObject = {slug: {**table_of(options.get(slug)), "prompt": prompt} for slug in PROMPTED}
    return {**provider, "options": {**options, **prompted}}


def decode_transcription(body: Json, model: str, generation_id: str | None, warnings: tuple[str, ...]) -> Transcript:
    """The transcript of an answer; Unavailable where it holds no text at all, an empty one is silence."""
    table = table_of(body)
    text, seconds = table.get("text"), number(table.get("duration"))
    if not isinstance(text, str):
        raise malformed("The provider's answer holds no transcript.")
    language = table.get("language")
    return Transcript(
        text=_plain(text),
        model=model,
        language=_plain(language) if isinstance(language, str) else None,
        duration_s=number(table_of(table.get("usage")).get("seconds")) if seconds is None else seconds,
        segments=_segments(table.get("segments"), "text"),
        words=_segments(table.get("words"), "word"),
        cost_usd=cost_of(body),
        generation_id=generation_id,
        warnings=warnings,
    )


def _segments(entries: Json, key: str) -> tuple[Segment, ...]:
    """Stretches of speech; one without times or words is left out."""
    found = (_segment(table_of(entry), key) for entry in (entries if isinstance(entries, list) else ()))
    return tuple(segment for segment in found if segment is not None)


def _segment(entry: JsonObject, key: str) -> Segment | None:
    """One stretch, its words under `key`; None without times or words."""
    start, end, text = number(entry.get("start")), number(entry.get("end")), entry.get(key)
    if start is None or end is None or not isinstance(text, str):
        return None
    speaker = entry.get("speaker_label", entry.get("speaker"))
    return Segment(start, end, _plain(text), None if speaker is None else _plain(str(speaker)))


def _plain(text: str) -> str:
    """Text that can be written: JSON may hold half a surrogate pair."""
    return text.encode("utf-8", "replace").decode().strip()


def check_bytes(media: Sequence[Media]) -> None:
    """Refuses more than one request may hold, before it is copied as base64."""
    if sum(len(one.data) for one in media) > LARGEST_MEDIA:
        raise InvalidArgument(
            f"One request holds at most {LARGEST_MEDIA >> 20} MiB of media.", hint="Send fewer or smaller files."
        )


def base64_of(data: bytes) -> str:
    """The bytes as standard base64 in one line."""
    return base64.b64encode(data).decode("ascii")


def table_of(value: Json) -> JsonObject:
    """The table that a value is; empty where it is none."""
    return value if isinstance(value, dict) else {}


def without_empty(body: JsonObject) -> JsonObject:
    """The fields that say something: None leaves the choice to the model."""
    return {key: value for key, value in body.items() if value is not None}
