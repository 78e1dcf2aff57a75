"""What a chat's events say, put together to one answer; pure, no I/O. Facts of 2026-11-22."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ...conversation import Reply, ToolCall
from ...errors import Json, JsonObject
from ...media import Media
from ..refusals import malformed, number
from .codec import Picture, bytes_of, cost_of, picture_of, table_of

LONGEST_NAME: Final = 200
MOST_CALLS, MOST_PICTURES, MOST_THOUGHTS = 256, 256, 4096
COUNTS: Final = {
    "prompt_tokens": ("", "prompt_tokens"),
    "completion_tokens": ("", "completion_tokens"),
    "total_tokens": ("", "total_tokens"),
    "cached_tokens": ("prompt_tokens_details", "cached_tokens"),
    "reasoning_tokens": ("completion_tokens_details", "reasoning_tokens"),
}
GROWING: Final = ("text", "summary", "data")
UNPRICED: Final = "The provider did not say what this cost."


@dataclass(slots=True)
class _Call:
    """A tool call on its way: its id and name come once, at any time, its arguments in pieces."""

    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class Assembly:
    """An answer on its way: what its events have said so far. Bytes stay base64 until somebody asks for them."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.finish_reason: str | None = None
        self.generation_id: str | None = None
        self.usage: JsonObject = {}
        self.cost_usd: float | None = None
        self._begun = False
        self._said: list[str] = []
        self._half = ""
        self._calls: dict[int, _Call] = {}
        self._images: list[JsonObject] = []
        self._sound: list[str] = []
        self._spoken: list[str] = []
        self._spilled = False
        self._reasoning: dict[tuple[str, str], JsonObject] = {}
        # By slot and key. In pieces: a text that grows by each of a million details would be copied as often.
        self._grown: dict[tuple[str, str], dict[str, list[str]]] = {}

    @property
    def whole(self) -> bool:
        """Whether the model itself came to an end: what may follow is the bill, and no more words."""
        return self.finish_reason is not None

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(self._said)

    @property
    def transcript(self) -> str:
        """The words of the sound; what was said beside it where the model gives no transcript."""
        return _mended("".join(self._spoken)) or self.text

    def take(self, event: Json) -> str:
        """Adds an event, of a stream or a whole answer; gives the new piece of text, perhaps empty."""
        told = table_of(event)
        self.model = _name(told.get("model")) or self.model
        self.generation_id = self.generation_id or _name(told.get("id"))
        if table_of(told.get("usage")):
            self.usage, self.cost_usd = _counted(table_of(told["usage"])), cost_of(event)
        choices = told.get("choices")
        pieces = [self._choice(table_of(choice)) for choice in (choices[:1] if isinstance(choices, list) else ())]
        return "".join(pieces)

    def ended(self, done: bool) -> str:
        """The line has ended: what was held back of the text; Unavailable where the answer had not ended."""
        if not self._begun:
            raise malformed("The provider's answer says nothing at all.")
        if not self.whole and not done:
            raise malformed("The provider's answer ended before it was whole.")
        last, self._half = _mended(self._half), ""
        self._said.append(last)
        return last

    def pictures(self) -> tuple[Picture, ...]:
        """What was drawn, in order, each decoded, or with the URL where it lies, or with its trouble."""
        return tuple(picture_of(table_of(image.get("image_url")) or image) for image in self._images)

    def sound(self) -> tuple[bytes, tuple[str, ...]]:
        """The bytes of all pieces, and a warning where one is no base64.

        Each piece is base64 by itself, with padding of its own; else all of them together are one text that was cut.
        """
        pieces = [bytes_of(piece) for piece in self._sound]
        if all(pieces):
            return b"".join(pieces), ()
        whole = bytes_of("".join(self._sound))
        return whole or b"".join(pieces), () if whole else ("A piece of the sound could not be read and is missing.",)

    def remains(self) -> tuple[bytes, ...]:
        """What has come of sound and pictures, for a refusal in their place."""
        drawn = (picture.media.data if picture.media else picture.remains for picture in self.pictures())
        return tuple(filter(None, (self.sound()[0], *drawn)))

    def reply(self, media: tuple[Media, ...], warnings: tuple[str, ...]) -> Reply:
        """The answer, with a warning for what a reader would take for the model's will and is not; `finish_reason` says why
        it ended.
        """
        named = {index: call for index, call in sorted(self._calls.items()) if call.name}
        calls = tuple(
            ToolCall(call_id, named[index].name, "".join(named[index].arguments)) for index, call_id in _ids(named)
        )
        told = {
            "A tool call without a name was left out.": len(named) < len(self._calls),
            f"Of the tool calls, those after the first {MOST_CALLS} were left out.": self._spilled,
            "The model said nothing.": not (self.text or calls or media),
            UNPRICED: self.cost_usd is None,
        }
        return Reply(
            text=self.text,
            model=self.model,
            finish_reason=self.finish_reason,
            usage=self.usage,
            tool_calls=calls,
            media=media,
            cost_usd=self.cost_usd,
            generation_id=self.generation_id,
            warnings=(*warnings, *(warning for warning, holds in told.items() if holds)),
            reasoning=tuple(self._thought(slot) for slot in self._reasoning),
        )

    def _choice(self, choice: JsonObject) -> str:
        """One choice: a delta of a stream, or the message of a whole answer."""
        self._begun = True
        streamed = "message" not in choice
        said = table_of(choice.get("delta") if streamed else choice["message"])
        for position, entry in enumerate(_entries(said, "tool_calls")):
            self._call(entry, self._place(entry, streamed, position))
        self._images += _entries(said, "images")[: MOST_PICTURES - len(self._images)]
        audio = table_of(said.get("audio"))
        self._sound += _texts(audio.get("data"))
        self._spoken += _texts(audio.get("transcript"))
        for detail in _entries(said, "reasoning_details"):
            self._think(detail)
        if choice.get("finish_reason") == "error":
            raise malformed("The provider broke its answer off with an error.")
        self.finish_reason = _name(choice.get("finish_reason")) or self.finish_reason
        return self._say(_spelled(said.get("content")) or _spelled(said.get("refusal")))

    def _say(self, text: str) -> str:
        """A piece that can be written: half a surrogate pair waits for its other half."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        self._said.append(_mended(text))
        return self._said[-1]

    def _place(self, entry: JsonObject, streamed: bool, position: int) -> int:
        """Which call an entry belongs to: by its index; without one by its id, and in a stream else the latest."""
        index, call_id = entry.get("index"), entry.get("id")
        if isinstance(index, int):
            return index
        if not call_id:
            return max(self._calls, default=0) if streamed else position
        known = (place for place, call in self._calls.items() if call.call_id == call_id)
        return next(known, max(self._calls, default=-1) + 1)

    def _call(self, entry: JsonObject, place: int) -> None:
        if place not in self._calls and len(self._calls) >= MOST_CALLS:
            self._spilled = True
            return
        call, function = self._calls.setdefault(place, _Call()), table_of(entry.get("function"))
        call.call_id = call.call_id or _name(entry.get("id")) or ""
        call.name = call.name or _name(function.get("name")) or ""
        arguments = function.get("arguments")
        # Some servers send the object itself where its text belongs.
        call.arguments += [json.dumps(arguments)] if isinstance(arguments, dict) else _texts(arguments)

    def _think(self, detail: JsonObject) -> None:
        """Adds to the reasoning, which some models want back with their tool calls just as it was."""
        slot = str(detail.get("index")), str(detail.get("type"))
        if slot not in self._reasoning and len(self._reasoning) >= MOST_THOUGHTS:
            return
        held, grown = self._reasoning.setdefault(slot, {}), self._grown.setdefault(slot, {})
        for key, value in detail.items():
            if key in GROWING and isinstance(value, str):
                grown.setdefault(key, []).append(value)
            held[key] = held.get(key) if value is None else value

    def _thought(self, slot: tuple[str, str]) -> JsonObject:
        """One slot's reasoning, its texts put together."""
        return {**self._reasoning[slot], **{key: "".join(pieces) for key, pieces in self._grown[slot].items()}}


def _ids(calls: Mapping[int, _Call]) -> list[tuple[int, str]]:
    """An id for each call: its own, or one made of its place where it has none or shares it with an earlier one."""
    given: dict[str, int] = {}
    for index, call in calls.items():
        name = call.call_id if call.call_id and call.call_id not in given else f"call_{index}"
        given[name] = index
    return [(index, name) for name, index in given.items()]


def _counted(usage: JsonObject) -> JsonObject:
    """How many tokens, by the provider's names for them; what is not counted is left out."""
    found = {
        name: number((table_of(usage.get(table)) if table else usage).get(key)) for name, (table, key) in COUNTS.items()
    }
    return {name: int(count) for name, count in found.items() if count is not None}


def _entries(said: JsonObject, key: str) -> list[JsonObject]:
    """The tables of a list."""
    entries = said.get(key)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _texts(value: Json) -> list[str]:
    """A text that says something, as a list of one."""
    return [value] if isinstance(value, str) and value else []


def _spelled(content: Json) -> str:
    """Content as text: it is one, or a list of parts of which some hold one."""
    parts = [table_of(part).get("text") for part in content] if isinstance(content, list) else [content]
    return "".join(part for part in parts if isinstance(part, str))


def _name(value: Json) -> str | None:
    """A model, an id or a word of the provider's, if it is one that can be kept and shown."""
    fit = isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isascii() and value.isprintable()
    return value if fit and isinstance(value, str) else None


def _mended(text: str) -> str:
    """Text that can be written: surrogate pairs put together, and halves of one replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
