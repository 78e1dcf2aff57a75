"""Turns of a conversation, and the capability that answers them in text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .capabilities import Capability, Exchange
from .errors import JsonObject
from .media import Media

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Text:
    """A text part."""

    text: str


# Media is a picture, or sound for a model that hears; a document has become Text before.
Part: TypeAlias = Text | Media


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool; `arguments` is JSON text as it came, which may be no JSON at all."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn, its parts in the order in which they are told. A tool's turn `answers` the call of that id.

    `reasoning` is what a Reply with tool calls brought; some models refuse to go on without it.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    answers: str = ""
    reasoning: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the model may call; `schema` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: JsonObject


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to be answered; None leaves the choice to the model.

    `fallbacks` are models to try in order where the first one fails; `effort` is how long to reason (none to max);
    `schema` is the JSON schema that the answer's text has to keep.
    """

    turns: tuple[Turn, ...]
    tools: tuple[ToolSpec, ...] = ()
    fallbacks: tuple[str, ...] = ()
    max_output_tokens: int | None = None
    temperature: float | None = None
    effort: str | None = None
    schema: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What one request was answered: `model` is the one that did, `usage` the provider's count of tokens.

    `finish_reason` is stop, length, tool_calls, content_filter, or the provider's own word. `cost_usd` is None where
    nobody says it. `reasoning` is opaque, for the Turn that tells this reply in the next request. `remains` came with
    it, was paid for and is no medium: to be kept aside; a warning says why of each.
    """

    text: str
    model: str
    finish_reason: str | None
    usage: JsonObject
    tool_calls: tuple[ToolCall, ...] = ()
    media: tuple[Media, ...] = ()
    cost_usd: float | None = None
    generation_id: str | None = None
    warnings: tuple[str, ...] = ()
    reasoning: tuple[JsonObject, ...] = ()
    remains: tuple[bytes, ...] = ()


class TextGeneration(Capability):
    """A conversation in, its next turn out. No switch of routes.toml: every route with a text model has it."""

    flag = "text"
    phrase = "answers in text"

    @abstractmethod
    async def answer(
        self, model: str, request: ChatRequest, exchange: Exchange, said: Callable[[str], Awaitable[None]]
    ) -> Reply:
        """The next turn; `said` is awaited with each piece of its text as it comes, `Reply.text` is all of them.

        Refuses a picture where `sees` is false and sound where `hears` is, before anything is sent.
        """

    def sees(self, model: str) -> bool:
        """Whether `model` takes pictures."""
        return False

    def hears(self, model: str) -> bool:
        """Whether `model` takes sound."""
        return False

    def context_tokens(self, model: str) -> int | None:
        """How many tokens `model` holds, the answer included; None where that is not known."""
        return None
