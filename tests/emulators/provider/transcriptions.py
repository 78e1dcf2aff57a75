"""POST /audio/transcriptions, as JSON and as multipart."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import wave
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from tests.emulators.provider import synthetic
from tests.emulators.provider.answers import Answer, Asked, Refused
from tests.emulators.provider.catalogue import Model, find
from tests.emulators.provider.wire import InlineAudio, LinkedAudio, TranscriptionOptions, TranscriptionRequest, parse

if TYPE_CHECKING:
    from tests.emulators.provider.emulator import OpenRouterEmulator

SENTENCE = "This is a sentence that the stand-in always hears. It is followed by another one."
LARGEST_UPLOAD = 25 << 20
PCM_RATE = 16000
TEXT_FIELDS = frozenset({"model", "language", "response_format", "session_id", "user"})
JSON_FIELDS = frozenset({"provider", "trace", "temperature", "diarize"})
LIST_FIELDS = frozenset({"timestamp_granularities[]", "keyterms[]"})
FORMATS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/flac": "flac",
    "audio/mp4": "m4a",
    "audio/ogg": "ogg",
    "audio/webm": "webm",
    "audio/aac": "aac",
}


async def transcribe(emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """What is said, with segments and words where they were asked for."""
    options, data, form = await read(asked)
    model = find(options.model, "transcription")
    check_sound(data, form)
    check_options(options, model)
    seconds = length(data, form)
    text = emulator.transcripts.get(hashlib.sha256(data).hexdigest(), SENTENCE)
    cost = round(model.cost * seconds, 9)
    payload: dict[str, Any] = {"text": text, "usage": {"seconds": round(seconds, 3), "cost": cost}}
    if options.response_format == "verbose_json":
        payload |= verbose(text, seconds, options)
    return Answer(payload=payload, model=options.model, cost=cost, generation_id=emulator.next_id("gen-stt"))


async def read(asked: Asked) -> tuple[TranscriptionOptions, bytes, str]:
    """The options, the sound and its declared format, out of either body."""
    kind = asked.headers.get("content-type", "").partition(";")[0]
    if kind == "multipart/form-data":
        return await read_multipart(asked)
    request = parse(TranscriptionRequest, asked.body)
    if isinstance(request.input_audio, LinkedAudio):
        raise Refused(400, "This model cannot download audio; send input_audio.data")
    return request, decoded(request.input_audio), request.input_audio.format


def decoded(audio: InlineAudio) -> bytes:
    """Raw base64, and no data URI."""
    try:
        return base64.b64decode(audio.data, validate=True)
    except binascii.Error as error:
        raise Refused(400, "input_audio.data is not valid base64") from error


async def read_multipart(asked: Asked) -> tuple[TranscriptionOptions, bytes, str]:
    """The parts of an upload; `prompt` is taken and ignored."""
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        assert not sent
        sent = True
        return {"type": "http.request", "body": asked.body}

    headers = [(name.encode(), value.encode()) for name, value in asked.headers.items()]
    scope = {"type": "http", "method": "POST", "path": asked.path, "query_string": b"", "headers": headers}
    async with Request(scope, receive).form() as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise Refused(400, 'Missing required "file" field in multipart/form-data body')
        data = await upload.read()
        if len(data) > LARGEST_UPLOAD:
            raise Refused(413, "The file is larger than 25 MB")
        return parse(TranscriptionOptions, options_text(form)), data, declared(upload)


def options_text(form: FormData) -> bytes:
    """The text parts as the JSON body that they stand for."""
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in ("file", "prompt"):
            continue
        if name in LIST_FIELDS:
            fields.setdefault(name.removesuffix("[]"), []).append(value)
        elif name in JSON_FIELDS:
            fields[name] = loose(name, str(value))
        elif name in TEXT_FIELDS:
            fields[name] = value
        else:
            raise Refused(400, f"{name}: unknown field")
    return json.dumps(fields).encode()


def loose(name: str, text: str) -> Any:
    """A number, a boolean or an object that travelled as text."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise Refused(400, f"{name}: not valid JSON") from error


def declared(upload: UploadFile) -> str:
    """The format by the name's extension, else by the part's type."""
    extension = PurePath(upload.filename or "").suffix.removeprefix(".").lower()
    extension = {"mpga": "mp3", "mp4": "m4a", "oga": "ogg"}.get(extension, extension)
    form = extension if extension in {*FORMATS.values(), "pcm"} else FORMATS.get(upload.content_type or "")
    if form is None:
        raise Refused(400, "The audio format is unknown: name the file with an extension or label the part")
    return form


def check_sound(data: bytes, form: str) -> None:
    """The declared format is the one that the bytes have."""
    if not data:
        raise Refused(400, "The audio is empty")
    found = synthetic.sniff_audio(data)
    if (form == "pcm" and found is not None) or (form != "pcm" and found != form):
        raise Refused(400, f"The audio does not match the declared format {form}")


def length(data: bytes, form: str) -> float:
    """The sound's seconds; 400 for a WAV that cannot be read."""
    if form == "pcm":
        return len(data) / 2 / PCM_RATE
    try:
        return synthetic.duration(data)
    except (wave.Error, EOFError, ZeroDivisionError) as error:
        raise Refused(400, "The audio could not be decoded") from error


def check_options(options: TranscriptionOptions, model: Model) -> None:
    """Only what the model can do."""
    if options.response_format == "verbose_json" and not model.verbose:
        raise Refused(400, f"verbose_json is not supported by {model.id}")
    if options.diarize and not model.diarizes:
        raise Refused(400, f"diarize is not supported by {model.id}")
    if options.keyterms and not model.biases:
        raise Refused(400, f"keyterms is not supported by {model.id}")


def verbose(text: str, seconds: float, options: TranscriptionOptions) -> dict[str, Any]:
    """The longer answer; words only on request, spread evenly over the sound."""
    asked = set(options.timestamp_granularities or ["segment"]) | ({"word"} if options.diarize else set())
    words = timed(text.split(), seconds)
    speaker = {"speaker": 0, "speaker_label": "A"} if options.diarize else {}
    answer: dict[str, Any] = {"task": "transcribe", "language": "english", "duration": round(seconds, 3)}
    answer["segments"] = [{**segment, **speaker} for segment in segments(words)]
    if "word" in asked:
        answer["words"] = [{**word, **speaker} for word in words]
    return answer


def timed(words: list[str], seconds: float) -> list[dict[str, Any]]:
    """Every word with its start and end."""
    step = seconds / max(1, len(words))
    ends = [round(step * (at + 1), 3) for at in range(len(words))]
    starts = [0.0, *ends]
    return [{"word": word, "start": start, "end": end} for word, start, end in zip(words, starts, ends, strict=False)]


def segments(words: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One segment a sentence."""
    groups: list[list[dict[str, Any]]] = [[]]
    for word in words:
        groups[-1].append(word)
        if word["word"][-1] in ".?!":
            groups.append([])
    return [
        {
            "id": number,
            "start": group[0]["start"],
            "end": group[-1]["end"],
            "text": " ".join(word["word"] for word in group),
            "avg_logprob": -0.2,
            "compression_ratio": 1.1,
            "no_speech_prob": 0.01,
            "seek": 0,
            "temperature": 0,
            "tokens": [1, 2],
        }
        for number, group in enumerate(filter(None, groups))
    ]
