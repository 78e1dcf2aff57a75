"""A whole text driver that says what a test wrote down, and a daemon's call with it in front of the provider's stand-in."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import anyio.lowlevel

from kheish_mcp.capabilities import Driver, Exchange, ModelCard
from kheish_mcp.catalog import Backend, Catalog, Offer
from kheish_mcp.conversation import ChatRequest, Part, Reply, Text, TextGeneration, ToolCall, Turn
from kheish_mcp.daemon import open_daemon
from kheish_mcp.errors import InvalidArgument, JsonObject, KheishError
from kheish_mcp.media import Media
from kheish_mcp.secret import Secret
from kheish_mcp.settings import Settings
from kheish_mcp.stores.jobs import Job
from kheish_mcp.tools.base import Call, Parts, Question, Witness
from tests.choices import chosen
from tests.conftest import CANARY
from tests.emulators.openrouter import OpenRouterEmulator

Line = str | Reply | KheishError | Callable[[ChatRequest], "str | Reply"]
DEADLINE_S = 60.0


class Scripted(Driver, TextGeneration):
    """Says the next line of its script to each request, checks each request, and remembers them all."""

    name = provider = "scripted"
    needs_key = False

    def __init__(self, *lines: Line, seeing: bool = False, hearing: bool = False, context: int | None = None) -> None:
        self.script = deque(lines)
        self.requests: list[ChatRequest] = []
        self.between: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint
        self.seeing, self.hearing, self.context = seeing, hearing, context

    def say(self, *lines: Line) -> None:
        """Appends to the script."""
        self.script.extend(lines)

    def models(self) -> tuple[ModelCard, ...]:
        return (
            ModelCard("script/plain", ("text",)),
            ModelCard("script/eyes", ("text",), parameters=("temperature", "tools")),
            ModelCard("script/handless", ("text",), parameters=("temperature",)),
        )

    def sees(self, model: str) -> bool:
        return self.seeing or model == "script/eyes"

    def hears(self, model: str) -> bool:
        return self.hearing

    def context_tokens(self, model: str) -> int | None:
        return self.context

    async def answer(
        self, model: str, request: ChatRequest, exchange: Exchange, said: Callable[[str], Awaitable[None]]
    ) -> Reply:
        check(request.turns)
        self.requests.append(request)
        await exchange.sent()
        await exchange.responded("gen-scripted")
        line = self.script.popleft() if self.script else "This is what the script always says."
        line = line(request) if callable(line) else line
        if isinstance(line, KheishError):
            raise line
        reply = line if isinstance(line, Reply) else answer(line)
        for word in reply.text.split(" ") if reply.text else ():
            await said(f"{word} ")
            await self.between()
        return replace(reply, model=model)


def check(turns: tuple[Turn, ...]) -> None:
    """What every provider asks of a conversation: it begins and ends rightly, and each call has its result behind it."""
    assert turns
    assert turns[-1].role in ("user", "tool")
    open_calls: list[str] = []
    for turn in turns:
        assert turn.parts or turn.tool_calls
        if turn.role == "tool":
            open_calls.remove(turn.answers)
        else:
            assert not open_calls
        open_calls += [call.call_id for call in turn.tool_calls]
    assert not open_calls


def answer(text: str = "", *calls: ToolCall, cost: float | None = 0.001, **more: Any) -> Reply:
    """A reply with calls in it or without."""
    usage: JsonObject = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return Reply(text, "", "tool_calls" if calls else "stop", usage, tool_calls=calls, cost_usd=cost, **more)


def wants(name: str, call_id: str = "call-1", /, **arguments: Any) -> ToolCall:
    """A tool call."""
    return ToolCall(call_id, name, json.dumps(arguments))


def texts(turn: Turn) -> str:
    """All text of a turn."""
    return "\n".join(part.text for part in turn.parts if isinstance(part, Text))


def kinds(parts: tuple[Part, ...]) -> list[str]:
    """`text`, or the media type of each part."""
    return [part.media_type if isinstance(part, Media) else "text" for part in parts]


def last_result(request: ChatRequest) -> dict[str, Any]:
    """The result object that the last tool turn of a request tells."""
    loaded: dict[str, Any] = json.loads(texts(request.turns[-1]))
    return loaded


class Bench:
    """A daemon's parts with a scripted route `script` in front, `spare` behind it, and a local caller's call on them."""

    def __init__(self, parts: Parts, driver: Scripted) -> None:
        self.driver = driver
        self.told: list[str] = []
        self.said: list[str] = []
        self.spare = Scripted()
        offers = (
            Offer("script", "scripted", driver, provider="scripted", models={"text": ("script/plain",)}),
            Offer("spare", "scripted", self.spare, provider="scripted", models={"text": ("script/eyes",)}),
        )
        catalog = Catalog((*offers, *parts.catalog.offers))
        shared = {field.name: getattr(parts, field.name) for field in fields(Parts)} | {"catalog": catalog}
        self.call = Call(**shared, owner="local", at_hand=True, report=self.hear, wait_seconds=DEADLINE_S)

    async def hear(self, sentence: str) -> None:
        """Remembers what the caller is told."""
        self.told.append(sentence)

    async def speak(self, piece: str) -> None:
        """Remembers what the model says."""
        self.said.append(piece)

    @property
    def backend(self) -> Backend[TextGeneration]:
        """The scripted route's text model."""
        return chosen(self.call.catalog, TextGeneration, provider="script")

    async def ask(
        self, text: str, *, run: Callable[..., Awaitable[JsonObject]] | None = None, **more: Any
    ) -> dict[str, Any]:
        """One run as a job; its result, or its refusal raised."""
        question = Question(text, **more)
        converse = run or self.call.converse

        async def work(job: Job) -> JsonObject:
            return await converse(self.call, job, (self.backend,), question, Witness(self.speak, self.hear))

        job = await self.call.jobs.start("local", "ask_model", {}, work)
        assert await self.call.jobs.wait(job.job_id, DEADLINE_S)
        record = await self.call.jobs.get(job.job_id, "local")
        if record.error is not None:
            raise Refused(record.error)
        return record.result or {}


class Refused(Exception):
    """A run that was refused; `error` is the refusal's object."""

    def __init__(self, error: JsonObject) -> None:
        super().__init__(error["message"])
        self.error = error


@asynccontextmanager
async def bench(state_root: Path, emulator: OpenRouterEmulator | None, driver: Scripted) -> AsyncGenerator[Bench]:
    """A bench; with an emulator the media tools of route openrouter are there too."""
    settings = Settings(
        state_root,
        openrouter_api_key=Secret(CANARY) if emulator else None,
        openrouter_base_url=emulator.base_url if emulator else None,
        _variables={"OPENROUTER_API_KEY": CANARY} if emulator else {},
        discovery="disabled",
    )
    async with open_daemon(settings) as daemon:
        yield Bench(daemon.parts, driver)


def refusal() -> KheishError:
    """What a provider may say no with."""
    return InvalidArgument("The provider says no.", hint="Ask otherwise.")
