"""POST /chat/completions: scripted turns, whole or as a stream, with tool calls, pictures and sound."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from tests.emulators.provider import synthetic
from tests.emulators.provider.answers import Answer, Asked, Refused, stream
from tests.emulators.provider.catalogue import ASPECTS, ENDPOINTS, MODELS, Model, elsewhere
from tests.emulators.provider.chat_wire import ChatRequest, PicturePart, SoundPart
from tests.emulators.provider.images import check_picture
from tests.emulators.provider.wire import parse

if TYPE_CHECKING:
    from tests.emulators.provider.emulator import OpenRouterEmulator

NO_ENDPOINTS = "No endpoints found that support"
CANCELLING = ("openai/",)  # whose work stops, unpaid, when a client leaves its stream
TIERS = {"0.5K": "512", "1K": "1K", "2K": "2K", "4K": "4K"}
SOUND_PART = 4802  # bytes, not a multiple of three: every part carries its own padding


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; `arguments` as an object, or as text to send one that is no JSON."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model says next; `finish` replaces the reason that would follow from it."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    pictures: int = 0
    reasoning: str | None = None
    finish: str | None = None


Said = str | Turn | Callable[[Any], str | Turn]


async def complete(emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """The next scripted turn, or a plain sentence with what the modalities ask for."""
    request = parse(ChatRequest, asked.body)
    model = find(request)
    check_inputs(request, model)
    check_outputs(request, model)
    check_sound_out(request, model)
    turn = shortened(next_turn(emulator, request, asked), request)
    message = said(emulator, request, turn, model)
    head = {"id": emulator.next_id("gen"), "provider": "Emulated", "model": model.id, "created": int(time.time())}
    usage = priced(asked, turn, model)
    told = {"model": model.id, "cost": usage["cost"], "generation_id": head["id"]}
    finish = turn.finish or ("tool_calls" if turn.calls else "stop")
    if request.stream:
        events = chunks(head, message, finish, usage)
        return stream(events, **told, cancellable=model.id.startswith(CANCELLING))
    choice = {"index": 0, "finish_reason": finish, "native_finish_reason": finish, "logprobs": None, "message": message}
    facts = {"object": "chat.completion", "system_fingerprint": None, "service_tier": "default"}
    return Answer(payload={**head, **facts, "choices": [choice], "usage": usage}, **told)


def find(request: ChatRequest) -> Model:
    """The model that answers; 400 for an unknown one, and for one that no chat reaches."""
    for name in (request.model, *(request.models or ())):
        if name.partition(":")[0] not in MODELS:
            raise Refused(400, f"{name} is not a valid model ID")
    model = MODELS[request.model.partition(":")[0]]
    for kind in ("speech", "transcription"):
        if kind in model.outputs:
            raise Refused(400, f"{model.id} is not a chat model", elsewhere(model.id, ENDPOINTS[kind]))
    return model


def check_inputs(request: ChatRequest, model: Model) -> None:
    """Only what the model takes in, and media that are what they say."""
    for part in request.parts:
        if isinstance(part, PicturePart):
            if "image" not in model.inputs:
                raise Refused(404, f"{NO_ENDPOINTS} image input")
            check_picture(part.image_url.url)
        elif isinstance(part, SoundPart):
            if "audio" not in model.inputs:
                raise Refused(404, f"{NO_ENDPOINTS} audio input")
            check_sound(part)


def check_sound(part: SoundPart) -> None:
    """Raw base64 of the declared format."""
    try:
        data = base64.b64decode(part.input_audio.data, validate=True)
    except binascii.Error as error:
        raise Refused(400, "input_audio.data is not valid base64") from error
    declared = part.input_audio.format
    if declared not in ("pcm16", "pcm24", "aiff") and synthetic.sniff_audio(data) != declared:
        raise Refused(400, f"The audio does not match the declared format {declared}")


def check_outputs(request: ChatRequest, model: Model) -> None:
    """Exactly the modalities that the model has, where pictures are asked; models of pictures alone are not here."""
    wanted = list(dict.fromkeys(request.modalities or [kind for kind in ("text",) if kind in model.outputs]))
    whole = set(wanted) == set(model.outputs) if "image" in wanted else set(wanted) <= set(model.outputs)
    if not wanted or not whole or "text" not in model.outputs:
        modalities = ", ".join(wanted) or "text"
        raise Refused(404, f"{NO_ENDPOINTS} the requested output modalities: {modalities}")


def check_sound_out(request: ChatRequest, model: Model) -> None:
    """Speech streams as samples alone, in a voice; music as a file, in none."""
    if request.audio is None:
        return
    formats = ("mp3", "wav") if model.plays else ("pcm16",)
    if request.audio.format not in formats:
        supported = ", ".join(f"'{name}'" for name in formats)
        told = f"'audio.format' does not support '{request.audio.format}' when stream=true. Supported values are: {supported}."
        raise Refused(400, told)
    if not model.plays and request.audio.voice not in model.voices:
        raise Refused(400, f"audio.voice: expected one of {', '.join(model.voices)}")


def next_turn(emulator: OpenRouterEmulator, request: ChatRequest, asked: Asked) -> Turn:
    """The turn that a script says, or the sentence that is always said."""
    scripted = emulator.next_turn()
    if callable(scripted):
        scripted = scripted(json.loads(asked.body))
    if scripted is None:
        return Turn("This is what the stand-in always says.", pictures="image" in (request.modalities or ()))
    return scripted if isinstance(scripted, Turn) else Turn(scripted)


def shortened(turn: Turn, request: ChatRequest) -> Turn:
    """The turn within the tokens that it may have, a word a token."""
    most = request.max_completion_tokens or request.max_tokens
    words = turn.text.split(" ")
    if most is None or len(words) <= most:
        return turn
    return replace(turn, text=" ".join(words[:most]), calls=(), finish="length")


def said(emulator: OpenRouterEmulator, request: ChatRequest, turn: Turn, model: Model) -> dict[str, Any]:
    """The turn as a whole message."""
    message = {"role": "assistant", "content": turn.text or None, "refusal": None, "reasoning": turn.reasoning}
    if turn.reasoning:
        message["reasoning_details"] = [{"type": "reasoning.text", "index": 0, "text": turn.reasoning}]
    if turn.calls:
        message["tool_calls"] = [called(emulator.next_id("call"), call) for call in turn.calls]
    if turn.pictures:
        size = measured(request.image_config or {})
        drawn = [synthetic.picture(emulator.next_picture(), size, "png") for _ in range(turn.pictures)]
        message["images"] = [{"type": "image_url", "image_url": {"url": data_url(data)}} for data in drawn]
    if request.audio and model.plays:
        song = synthetic.mp3(4000) if request.audio.format == "mp3" else synthetic.wav(synthetic.tone(900))
        message["audio"] = {"id": "audio_1", "data": base64.b64encode(song).decode(), "expires_at": 1795348519}
    elif request.audio:
        sound = base64.b64encode(synthetic.tone(len(turn.text))).decode()
        message["audio"] = {"id": "audio_1", "data": sound, "transcript": turn.text, "expires_at": 1795348519}
        message["content"] = None
    return message


def measured(wanted: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in pixels of a picture drawn in a chat."""
    tier = TIERS.get(str(wanted.get("image_size", "1K")))
    aspect = str(wanted.get("aspect_ratio", "1:1"))
    if tier is None or aspect not in ASPECTS["values"]:
        raise Refused(400, "image_config: expected a known image_size and aspect_ratio")
    return synthetic.measure(None, tier, aspect)


def called(name: str, call: Call) -> dict[str, Any]:
    """A tool call under its id."""
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
    return {"id": name, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def data_url(data: bytes) -> str:
    """A PNG as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def priced(asked: Asked, turn: Turn, model: Model) -> dict[str, Any]:
    """Tokens and USD: a token is four bytes of the request, and a word of the answer."""
    read = len(asked.body) // 4
    written = len(turn.text.split()) + 20 * len(turn.calls) + 1290 * turn.pictures
    dear = model.cost * turn.pictures if model.makes_pictures else model.cost * read + model.answer_cost * written
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "cost": round(dear, 9),
        "is_byok": False,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0, "cache_write_tokens": 0, "video_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": 1290 * turn.pictures},
    }


def chunks(
    head: dict[str, Any], message: dict[str, Any], finish: str, usage: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The message as the chunks of a stream: what is said, why it ended, and what it cost."""

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    for delta in deltas(message):
        yield chunk(delta)
    yield chunk({"content": ""}, finish)
    yield {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}


def deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is new in each chunk."""
    words = (message["content"] or "").split(" ") if message["content"] else []
    texts = ({"content": word if at == 0 else f" {word}"} for at, word in enumerate(words))
    thoughts = list(thought_deltas(message.get("reasoning_details", [])))
    pictures = [{"content": "", "images": message["images"]}] if "images" in message else []
    return chain(thoughts, texts, pictures, tool_deltas(message.get("tool_calls", [])), sounds(message.get("audio")))


def thought_deltas(details: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each thought in two parts, as plain text beside its detail, which is what has to come back."""
    for detail in details:
        half = len(detail["text"]) // 2
        for part in (detail["text"][:half], detail["text"][half:]):
            yield {"content": "", "reasoning": part, "reasoning_details": [{**detail, "text": part}]}


def tool_deltas(calls: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each call begins with its name, and its arguments follow in two parts."""
    for index, call in enumerate(calls):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        half = len(arguments) // 2
        begun = {"index": index, "id": call["id"], "type": "function", "function": {"name": name, "arguments": ""}}
        yield {"tool_calls": [begun]}
        for part in (arguments[:half], arguments[half:]):
            yield {"tool_calls": [{"index": index, "type": "function", "function": {"arguments": part}}]}


def sounds(audio: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The words, then the samples in parts that are base64 each by itself, then the end of their life."""
    if audio is None:
        return
    if "transcript" not in audio:
        yield {"audio": {"id": audio["id"], "data": audio["data"]}}  # music: one piece of hundreds of kilobytes
    else:
        yield {"audio": {"id": audio["id"], "transcript": audio["transcript"]}}
        data = base64.b64decode(audio["data"])
        for at in range(0, len(data), SOUND_PART):
            part = base64.b64encode(data[at : at + SOUND_PART]).decode()
            yield {"audio": {"id": audio["id"], "data": part}}
    yield {"audio": {"id": audio["id"], "expires_at": audio["expires_at"]}}
