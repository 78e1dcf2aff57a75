"""A strict stand-in for OpenAI's API: every field checked, forms read part by part, no price in any answer."""

from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any, Literal, TypeVar

from PIL import Image
from pydantic import Field
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from tests.emulators.provider import chat, images, synthetic
from tests.emulators.provider.answers import Answer, Asked, Refused, stream
from tests.emulators.provider.chat_wire import PicturePart, SoundPart, TextPart
from tests.emulators.provider.emulator import OpenRouterEmulator
from tests.emulators.provider.transcriptions import SENTENCE, declared, segments, timed
from tests.emulators.provider.wire import Name, Wire, parse

B = TypeVar("B", bound=Wire)
PRICE = 0.01
VOICES = ("alloy", "ash", "coral", "nova", "onyx", "verse")
SIDES = r"^(auto|[1-9]\d{1,3}x[1-9]\d{1,3})$"
MOST, LARGEST, LARGEST_MASK = 16, 50 << 20, 4 << 20
NUMBERS = frozenset({"n", "output_compression", "temperature"})


class OpenAIRefused(Refused):
    """A refusal in OpenAI's own envelope."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(status, message)
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}

    def answer(self) -> Answer:
        """The refusal as JSON."""
        return Answer(self.status, {"error": self.error})


class Drawing(Wire):
    """POST /images/generations, and what an edit is asked alike."""

    model: Name
    prompt: Name
    n: Annotated[int, Field(ge=1, le=10)] = 1
    size: Annotated[str, Field(pattern=SIDES)] = "auto"
    quality: Literal["auto", "low", "medium", "high", "standard", "hd"] = "auto"
    background: Literal["auto", "transparent", "opaque"] = "auto"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    moderation: Literal["auto", "low"] | None = None
    response_format: Literal["url", "b64_json"] | None = None
    user: str | None = None


class Speech(Wire):
    """POST /audio/speech."""

    model: Name
    input: Annotated[str, Field(min_length=1, max_length=4096)]
    voice: Name
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: Annotated[float, Field(ge=0.25, le=4.0)] | None = None
    instructions: str | None = None
    stream_format: Literal["audio", "sse"] | None = None


class Hearing(Wire):
    """POST /audio/transcriptions, without the file."""

    model: Name
    language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] | None = None
    prompt: str | None = None
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] = "json"
    temperature: float | None = None
    timestamp_granularities: list[Literal["segment", "word"]] | None = None
    chunking_strategy: Literal["auto"] | None = None


class Function(Wire):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Wire):
    type: Literal["function"]
    function: Function


class Called(Wire):
    name: Name
    arguments: str


class ToolCall(Wire):
    id: Name
    type: Literal["function"]
    function: Called


class Message(Wire):
    nullable = frozenset({"content"})

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart | PicturePart | SoundPart] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class StreamOptions(Wire):
    include_usage: bool = False


class Conversation(Wire):
    """POST /chat/completions, as far as it is used here."""

    model: Name
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    tools: list[Tool] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    response_format: dict[str, Any] | None = None


def strictly(kind: type[B], text: bytes) -> B:
    """A body as its model; 400 in OpenAI's words."""
    try:
        return parse(kind, text)
    except Refused as refused:
        param, _, why = refused.message.partition(": ")
        unknown = "Extra inputs" in why
        message = f"Unknown parameter: '{param}'." if unknown else f"Invalid value for '{param}': {why}"
        raise OpenAIRefused(400, message, param, "unknown_parameter" if unknown else "invalid_value") from refused


async def form_of(asked: Asked) -> FormData:
    """The parts of a form; the caller closes it."""
    if asked.headers.get("content-type", "").partition(";")[0] != "multipart/form-data":
        raise OpenAIRefused(400, "Content-Type must be multipart/form-data")
    left = iter([{"type": "http.request", "body": asked.body}])

    async def receive() -> dict[str, Any]:
        return next(left)

    headers = [(name.encode(), value.encode()) for name, value in asked.headers.items()]
    return await Request({"type": "http", "method": "POST", "headers": headers}, receive).form()


def fields_of(form: FormData, *files: str) -> bytes:
    """The text parts as the JSON body that they stand for."""
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in files:
            continue
        if not isinstance(value, str):
            raise OpenAIRefused(400, f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        if name.endswith("[]"):
            fields.setdefault(name.removesuffix("[]"), []).append(value)
        else:
            fields[name] = json.loads(value) if name in NUMBERS else value
    return json.dumps(fields).encode()


async def generate(emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """Pictures of what was written."""
    return await drawn(emulator, strictly(Drawing, asked.body))


async def edit(emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """Pictures of what was given and written."""
    form = await form_of(asked)
    try:
        request = strictly(Drawing, fields_of(form, "image", "image[]", "mask"))
        pictures = [await uploaded(part) for name in ("image", "image[]") for part in form.getlist(name)]
        masks = [await uploaded(part) for part in form.getlist("mask")]
    finally:
        await form.close()
    check_pictures(pictures, masks)
    return await drawn(emulator, request)


async def uploaded(part: UploadFile | str) -> bytes:
    """A file's bytes, which are the picture that its part says."""
    if isinstance(part, str):
        raise OpenAIRefused(400, "Invalid file: expected a file, and got a text", "image")
    data = await part.read()
    if synthetic.sniff_picture(data) != part.content_type or not part.filename:
        raise OpenAIRefused(400, "Invalid image file or mode for image", "image", "invalid_image_file")
    return data


def check_pictures(pictures: list[bytes], masks: list[bytes]) -> None:
    """One to sixteen pictures, and at most one PNG of the first one's size that is clear somewhere."""
    if not 1 <= len(pictures) <= MOST or any(len(one) >= LARGEST for one in pictures):
        raise OpenAIRefused(400, "Invalid image: expected 1 to 16 images of less than 50 MB", "image")
    for data in masks:
        with Image.open(io.BytesIO(data)) as mask, Image.open(io.BytesIO(pictures[0])) as first:
            fits = mask.format == "PNG" and mask.mode == "RGBA" and mask.size == first.size
            if len(masks) > 1 or len(data) >= LARGEST_MASK or not fits:
                raise OpenAIRefused(400, "Invalid mask image: expected an RGBA PNG of the image's size", "mask")


async def drawn(emulator: OpenRouterEmulator, request: Drawing) -> Answer:
    """Pictures, as base64 or behind links; the newer models give base64 and take no wish for it."""
    new = request.model.startswith("gpt-image")
    if new and request.response_format:
        raise OpenAIRefused(400, "Unknown parameter: 'response_format'.", "response_format", "unknown_parameter")
    if not new and not request.model.startswith(("dall-e", "sd-")):
        raise OpenAIRefused(404, f"The model '{request.model}' does not exist", "model", "model_not_found")
    size = synthetic.measure(None if request.size == "auto" else request.size, None, None)
    seeds = [emulator.next_picture() for _ in range(request.n)]
    as_base64 = new or request.response_format == "b64_json"
    data = [
        {"b64_json": base64.b64encode(synthetic.picture(seed, size, request.output_format)).decode()}
        if as_base64
        else {"url": f"{emulator.origin}{emulator.base}/files/{seed}.png"}
        for seed in seeds
    ]
    payload: dict[str, Any] = {"created": 1795344919, "data": data}
    if new:
        payload["usage"] = {"input_tokens": 9, "output_tokens": 272, "total_tokens": 281}
    return Answer(payload=payload, model=request.model, cost=PRICE * request.n)


async def speak(_emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """A tone as long as the text; a WAV comes with the lengths of one that is still being made."""
    request = strictly(Speech, asked.body)
    if request.voice not in VOICES:
        raise OpenAIRefused(400, f"Invalid value: expected one of {', '.join(VOICES)}", "voice")
    pcm, open_ended = synthetic.tone(len(request.input)), (0xFFFFFFFF).to_bytes(4, "little")
    wav = bytearray(synthetic.wav(pcm))
    wav[4:8] = wav[40:44] = open_ended
    made = {
        "mp3": (synthetic.mp3(len(request.input)), "audio/mpeg"),
        "wav": (bytes(wav), "audio/wav"),
        "pcm": (pcm, "audio/pcm"),
    }
    body, media_type = made.get(request.response_format, (b"", ""))
    if not body:
        raise OpenAIRefused(400, "The stand-in gives no such format", "response_format")
    return Answer(body=body, media_type=media_type, model=request.model, cost=PRICE)


async def transcribe(_emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """What is said, in the form that was asked for by a model that has it."""
    form = await form_of(asked)
    try:
        request = strictly(Hearing, fields_of(form, "file"))
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise OpenAIRefused(400, "Missing required parameter: 'file'.", "file")
        data, ending = await upload.read(), declared(upload)
    finally:
        await form.close()
    if synthetic.sniff_audio(data) != ending:
        raise OpenAIRefused(400, "Invalid file format.", "file")
    check_form(request)
    return Answer(payload=heard(request, synthetic.duration(data)), model=request.model, cost=PRICE)


def check_form(request: Hearing) -> None:
    """Times come from whisper-1, speakers from the model that is called after them."""
    has = {"verbose_json": "whisper-1", "diarized_json": "gpt-4o-transcribe-diarize"}.get(request.response_format)
    if has not in (None, request.model):
        text = f"response_format '{request.response_format}' is not compatible with model '{request.model}'"
        raise OpenAIRefused(400, text, "response_format", "unsupported_value")
    if request.timestamp_granularities and request.response_format != "verbose_json":
        raise OpenAIRefused(400, "timestamp_granularities needs verbose_json", "timestamp_granularities")
    if request.model.endswith("-diarize") and request.chunking_strategy is None:
        raise OpenAIRefused(400, "chunking_strategy is required for diarization models", "chunking_strategy")


def heard(request: Hearing, seconds: float) -> dict[str, Any]:
    """The answer in the form that was asked for."""
    words = timed(SENTENCE.split(), seconds)
    plain: dict[str, Any] = {"text": SENTENCE}
    if request.response_format == "diarized_json":
        spoken = [{**segment, "type": "transcript.text.segment", "speaker": "A"} for segment in segments(words)]
        return {**plain, "task": "transcribe", "duration": seconds, "segments": spoken}
    if request.response_format != "verbose_json":
        return {**plain, "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 20, "total_tokens": 34}}
    asked = set(request.timestamp_granularities or ["segment"])
    told = {**plain, "task": "transcribe", "language": "english", "duration": seconds}
    told |= {"segments": segments(words)} if "segment" in asked else {}
    return told | ({"words": words} if "word" in asked else {})


async def converse(emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """The next scripted turn, in a stream; what it took is only told to who asks for it."""
    request = strictly(Conversation, asked.body)
    said = emulator.next_turn() or "It is so."
    scripted = said(json.loads(asked.body)) if callable(said) else said
    turn = scripted if isinstance(scripted, chat.Turn) else chat.Turn(scripted)
    wants_usage = request.stream_options is not None and request.stream_options.include_usage
    return stream(events_of(request.model, turn, wants_usage), model=request.model, cost=PRICE, cancellable=True)


def events_of(model: str, turn: chat.Turn, wants_usage: bool) -> Iterator[dict[str, Any]]:
    """The chunks of one turn."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1795344919, "model": model}
    for piece in itertools.chain([""], turn.text.split(" ")):
        delta = {"role": "assistant", "content": ""} if not piece else {"content": piece + " "}
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    for place, call in enumerate(turn.calls):
        arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(dict(call.arguments))
        told = {"index": place, "id": f"call_{place}", "type": "function"}
        function = {"name": call.name, "arguments": arguments}
        delta = {"tool_calls": [{**told, "function": function}]}
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    finish = turn.finish or ("tool_calls" if turn.calls else "stop")
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    if wants_usage:
        yield {**head, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}


async def models(_emulator: OpenRouterEmulator, _asked: Asked) -> Answer:
    """Ids and nothing else."""
    rows = [
        {"id": name, "object": "model", "created": 1795344919, "owned_by": "openai"}
        for name in ("gpt-image-2", "tts-1")
    ]
    return Answer(payload={"object": "list", "data": rows})


Endpoint = Callable[[OpenRouterEmulator, Asked], Awaitable[Answer]]
ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "/images/generations"): generate,
    ("POST", "/images/edits"): edit,
    ("POST", "/audio/speech"): speak,
    ("POST", "/audio/transcriptions"): transcribe,
    ("POST", "/chat/completions"): converse,
    ("GET", "/models"): models,
}


class OpenAIEmulator(OpenRouterEmulator):
    """OpenAI at /v1, or with `open_to_all` a server on somebody's machine that asks for no key."""

    base = "/v1"

    def __init__(self, key: str, *, open_to_all: bool = False) -> None:
        super().__init__(key)
        self.open_to_all = open_to_all

    def _endpoint(self, asked: Asked) -> Endpoint:
        endpoint = ENDPOINTS.get((asked.method, asked.path))
        if asked.path.startswith("/files/") and asked.method == "GET":
            return images.file
        if endpoint is None:
            raise OpenAIRefused(404, f"Invalid URL ({asked.method} {asked.path})")
        given = asked.headers.get("authorization")
        if not self.open_to_all and given != f"Bearer {self.key}":
            raise OpenAIRefused(401, "Incorrect API key provided.", code="invalid_api_key")
        return endpoint
