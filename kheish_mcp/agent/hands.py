"""The daemon's own tools as a model uses them: through a client of the daemon's own server, in this process."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import mcp_types as t
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from pydantic_core import from_json

from .. import __version__
from ..conversation import ToolCall, ToolSpec
from ..errors import InvalidArgument, JsonObject, KheishError, NotFound, ResourceExhausted
from ..mcp_server.listeners import Listeners
from ..mcp_server.server import REVISIONS, Face, KheishServer
from ..principals import Principal
from ..tools import TOOLS
from ..tools.ask_model import TOOL as ASK_MODEL
from ..tools.base import Call, Witness
from ..tools.emit_output import TOOL as EMIT_OUTPUT

ME: Final = t.Implementation(name="kheish-agent", version=__version__)
MOST_CALLS: Final = 16
AT_ONCE: Final = 4
LONGEST_RESULT: Final = 50_000  # characters
OFFERED: Final = tuple(tool for tool in TOOLS if tool is not ASK_MODEL)
NOT_JSON: Final = InvalidArgument("The arguments are no JSON object.", hint="Send the call again as the schema says.")
TOO_MANY: Final = ResourceExhausted("There are too many calls in one turn.", hint=f"At most {MOST_CALLS} at a time.")
TOO_DEAR: Final = ResourceExhausted("This run has cost as much as it may.", hint="Answer with what is there.")
ELSEWHERE: Final = InvalidArgument("A run publishes in its own session alone.", hint="Leave session out.")


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one tool call: the text that the model reads, and the result object or the refusal."""

    call: ToolCall
    text: str
    is_error: bool
    result: JsonObject


@dataclass(frozen=True, slots=True)
class Hands:
    """One run's client; a call that is refused gives the refusal to the model, and never ends the run.

    `session` is the run's own, and the only one that it publishes in: what it has read may speak out of it. `jobs` are
    those that its calls have begun.
    """

    client: Client
    witness: Witness
    session: str | None
    jobs: set[str] = field(default_factory=set)

    async def specs(self) -> tuple[ToolSpec, ...]:
        """The tools that are listed now, as the server describes them."""
        listed = await self.client.list_tools()
        return tuple(ToolSpec(tool.name, tool.description or "", tool.input_schema) for tool in listed.tools)

    async def use(self, calls: Sequence[ToolCall], has_money: Callable[[], Awaitable[bool]]) -> tuple[Done, ...]:
        """Makes the calls, four side by side, as long as the run has money; what came of them, in their order."""
        done = [_refused(call, TOO_MANY) for call in calls]
        lane = anyio.CapacityLimiter(AT_ONCE)

        async def one(place: int, call: ToolCall) -> None:
            async with lane:
                await self.witness.did(f"{call.name} begins")
                done[place] = await self._one(call) if await has_money() else _refused(call, TOO_DEAR)
                if isinstance(job_id := done[place].result.get("job_id"), str):
                    self.jobs.add(job_id)
                await self.witness.did(f"{call.name} {_told(done[place])}")

        async with anyio.create_task_group() as group:
            for place, call in enumerate(calls[:MOST_CALLS]):
                group.start_soon(one, place, call)
        return tuple(done)

    async def _one(self, call: ToolCall) -> Done:
        try:
            # Unlike json's, this reader takes neither half a surrogate pair nor NaN, which could not be written again.
            arguments = from_json(call.arguments or "{}", allow_inf_nan=False)
        except ValueError:
            return _refused(call, NOT_JSON)
        if not isinstance(arguments, dict):
            return _refused(call, NOT_JSON)
        if call.name == EMIT_OUTPUT.name and arguments.get("session") not in (None, self.session):
            return _refused(call, ELSEWHERE)

        async def progress(progress: float, total: float | None, message: str | None) -> None:
            await self.witness.did(f"{call.name}: {message}")

        try:
            result = await self.client.call_tool(call.name, arguments, progress_callback=progress)
        except MCPError as error:
            hint = f"The tools are: {', '.join(tool.name for tool in OFFERED)}."
            return _refused(call, NotFound(error.error.message, hint=hint))
        return _done(call, result)


def _done(call: ToolCall, result: t.CallToolResult) -> Done:
    """The result object, which emit_output gives last and every other tool first."""
    texts = [block.text for block in result.content if isinstance(block, t.TextContent)]
    text = texts[-1 if call.name == EMIT_OUTPUT.name and not result.is_error else 0]
    shown: Any = json.loads(text)
    cut = text if len(text) <= LONGEST_RESULT else f"{text[:LONGEST_RESULT]} [cut here: {len(text):,} characters]"
    return Done(call, cut, bool(result.is_error), shown)


def _refused(call: ToolCall, refusal: KheishError) -> Done:
    shown: JsonObject = {"error": refusal.as_json()}
    return Done(call, json.dumps(shown), True, shown)


def _told(done: Done) -> str:
    error = done.result.get("error")
    return f"is refused: {error.get('message')}" if done.is_error and isinstance(error, dict) else "is done"


async def with_hands(
    call: Call, session: str | None, witness: Witness, work: Callable[[Hands], Awaitable[JsonObject]]
) -> JsonObject:
    """What `work` gives with the caller's tools at hand, all but ask_model; its refusals are raised as they are."""

    async def runtime() -> JsonObject:
        return {}

    face = Face(
        lambda: call,
        runtime,
        Listeners(),
        lambda _: Principal(call.owner, call.at_hand, "generate"),
        OFFERED,
        session,
        inner=True,
    )
    refusal: KheishError | None = None
    async with Client(KheishServer(face), mode=REVISIONS[0], cache=None, client_info=ME) as client:
        try:
            return await work(Hands(client, witness, session))
        except KheishError as error:
            # Raised here it would leave the client's task group in a group of exceptions.
            refusal = error
    assert refusal is not None
    raise refusal
