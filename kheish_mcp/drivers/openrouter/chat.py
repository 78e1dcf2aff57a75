"""A conversation as OpenRouter's JSON; pure, no I/O. Facts of 2026-11-22."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from ...conversation import ChatRequest, Part, Text, ToolSpec, Turn
from ...errors import InvalidArgument, Json, JsonObject
from ...formats.pcm import with_header
from ...formats.recognition import HEADERLESS
from ...media import Media
from ..refusals import number
from .codec import REFERENCES, base64_of, check_bytes, preferred, table_of, without_empty

CHAT_PREFERENCES: Final = (
    "order", "only", "ignore", "allow_fallbacks", "require_parameters", "data_collection", "zdr", "sort", "max_price",
    "quantizations", "enforce_distillable_text", "preferred_max_latency", "preferred_min_throughput", "options",
)  # fmt: skip
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# What a chat hears, by the provider's word for it; headerless samples go as a WAV, which says its own layout.
HEARD: Final = {
    "audio/wav": "wav", "audio/mpeg": "mp3", "audio/flac": "flac", "audio/aac": "aac", "audio/ogg": "ogg",
    "audio/opus": "ogg", "audio/mp4": "m4a", "audio/m4a": "m4a", "audio/mpga": "mp3",
    **dict.fromkeys(HEADERLESS, "wav"),
}  # fmt: skip


def routing(preferences: Mapping[str, Json], schema: JsonObject | None = None) -> tuple[JsonObject, tuple[str, ...]]:
    """The `provider` object of a chat, and a warning for preferences that it does not take.

    A price is a text there, whatever routes.toml holds; and who cannot keep a schema would else ignore it.
    """
    kept, told = preferred(preferences, CHAT_PREFERENCES)
    given = table_of(kept.get("max_price"))
    prices: JsonObject = {unit: price if isinstance(price, str) else _decimal(price) for unit, price in given.items()}
    needs: JsonObject = {"require_parameters": True} if schema is not None else {}
    return {**needs, **kept, **({"max_price": prices} if prices else {})}, told


def encode_chat(model: str, request: ChatRequest, provider: JsonObject) -> JsonObject:
    """The body of POST /chat/completions for a streamed answer; what is not asked for is left to the model.

    Refuses with InvalidArgument an unknown effort, media that no chat takes, and more than one request may hold.
    """
    if request.effort not in (None, *EFFORTS):
        raise InvalidArgument("There is no such effort.", hint=f"One of: {', '.join(EFFORTS)}.")
    check_bytes([part for turn in request.turns for part in turn.parts if isinstance(part, Media)])
    others: list[Json] = [name for name in dict.fromkeys(request.fallbacks) if name != model]
    return without_empty(
        {
            "model": model,
            "models": others or None,
            "messages": [ENCODERS[turn.role](turn) for turn in request.turns],
            "stream": True,
            "tools": [_tool(spec) for spec in request.tools] or None,
            "max_completion_tokens": request.max_output_tokens,
            "temperature": request.temperature,
            "reasoning": {"effort": request.effort} if request.effort else None,
            "response_format": _format(request.schema),
            "provider": provider or None,
        }
    )


def _decimal(price: Json) -> str:
    """A number as a plain decimal: 1e-07 is no price there."""
    return format(Decimal(str(price)), "f") if number(price) is not None else str(price)


def _format(schema: JsonObject | None) -> Json:
    """The wish for an answer that keeps a JSON schema."""
    if schema is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _tool(spec: ToolSpec) -> JsonObject:
    """A tool that the model may call."""
    told: JsonObject = {"name": spec.name, "description": spec.description, "parameters": spec.schema}
    return {"type": "function", "function": told}


def _system(turn: Turn) -> JsonObject:
    return {"role": "system", "content": _words(turn.parts)}


def _user(turn: Turn) -> JsonObject:
    return {"role": "user", "content": _content(turn.parts)}


def _answered(turn: Turn) -> JsonObject:
    return {"role": "tool", "tool_call_id": turn.answers, "content": _content(turn.parts)}


def _assistant(turn: Turn) -> JsonObject:
    """What the model said before, with its calls, its pictures, and its reasoning as it came."""
    calls: list[Json] = [
        {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": _object(call.arguments)}}
        for call in turn.tool_calls
    ]
    shown: list[Json] = [_part(part) for part in turn.parts if isinstance(part, Media)]
    said = _words(turn.parts)
    return {
        "role": "assistant",
        "content": None if calls and not said else said,
        **({"tool_calls": calls} if calls else {}),
        **({"images": shown} if shown else {}),
        **({"reasoning_details": list[Json](turn.reasoning)} if turn.reasoning else {}),
    }


ENCODERS: Final[Mapping[str, Callable[[Turn], Json]]] = {
    "system": _system,
    "user": _user,
    "assistant": _assistant,
    "tool": _answered,
}


def _object(arguments: str) -> str:
    """A call's arguments as providers want them back: some parse them, and refuse the whole conversation otherwise."""
    try:
        return arguments if isinstance(json.loads(arguments), dict) else "{}"
    except (ValueError, RecursionError):
        return "{}"


def _words(parts: Iterable[Part]) -> str:
    """The text of a turn."""
    return "\n\n".join(part.text for part in parts if isinstance(part, Text))


def _content(parts: Sequence[Part]) -> Json:
    """A turn's parts in their order; as one text where they are nothing else."""
    if all(isinstance(part, Text) for part in parts):
        return _words(parts)
    return [_part(part) for part in parts]


def _part(part: Part) -> Json:
    """One part: text, a picture as a data URL, or sound as bare base64; refuses media of other types."""
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if part.media_type in REFERENCES:
        return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{base64_of(part.data)}"}}
    if part.media_type in HEARD:
        return {
            "type": "input_audio",
            "input_audio": {"data": base64_of(with_header(part)), "format": HEARD[part.media_type]},
        }
    raise InvalidArgument(
        f"No model takes {part.media_type or 'media of an unknown type'} in a conversation.",
        hint=f"One of: {', '.join((*REFERENCES, *HEARD))}; documents as their text.",
    )
