"""Jobs as the tasks of the extension io.modelcontextprotocol/tasks (SEP-2663, its specification of 2026-07-28)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import mcp_types as t
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from ..errors import FailedPrecondition, JsonObject, NotFound
from ..moments import written
from ..stores.jobs import JobRecord, Jobs
from ..tools.base import Input, MediaInput

Context = ServerRequestContext[Any]
I = TypeVar("I", bound=Input)  # noqa: E741 - an input

EXTENSION: Final = "io.modelcontextprotocol/tasks"
POLL_MS: Final = 2000


class TaskParams(t.RequestParams):
    """The params of tasks/get and tasks/cancel."""

    task_id: str = Field(alias="taskId", max_length=128)


class UpdateParams(TaskParams):
    """The params of tasks/update."""

    input_responses: dict[str, Any] = Field(default_factory=dict, alias="inputResponses")


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks of whoever asks: `jobs` as they are now, `owner` of a request, `present` a finished job's result.

    A task is a job by another name, so it lasts as long, and get_job knows it too. Its id is not to be guessed, and a
    foreign one looks like none. A job never asks for input: tasks/update finds nothing to do.
    """

    jobs: Callable[[], Jobs]
    owner: Callable[[Context], str]
    present: Callable[[Context, JobRecord], Awaitable[t.CallToolResult]]

    def serve(self, server: Server[Any]) -> None:
        """Declares the extension and its methods."""
        server.extensions[EXTENSION] = {}
        server.add_request_handler("tasks/get", TaskParams, self.get)
        server.add_request_handler("tasks/update", UpdateParams, self.update)
        server.add_request_handler("tasks/cancel", TaskParams, self.cancel)

    def hastened(self, ctx: Context, given: I) -> I:
        """The arguments of a call; one that may become a task waits for nothing."""
        if isinstance(given, MediaInput) and knows_tasks(ctx):
            return given.model_copy(update={"wait_seconds": 0.0})
        return given

    async def created(self, ctx: Context, job_id: str) -> JsonObject:
        """The result of a call that has become a task."""
        record = await self.jobs().get(job_id, self.owner(ctx))
        return {**_task(record), "resultType": "task"}

    async def get(self, ctx: Context, params: TaskParams) -> JsonObject:
        """A task as it stands, with its call's result once that is there."""
        record = await self._find(ctx, params)
        if record.state not in ("completed", "failed"):
            return _task(record)
        result = await self.present(ctx, record)
        shown = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        # A refusal is a result of its tool, and no failure of the protocol.
        return {**_task(record), "status": "completed", "result": shown}

    async def update(self, ctx: Context, params: UpdateParams) -> JsonObject:
        """Nothing is outstanding, so there is nothing to answer."""
        await self._find(ctx, params)
        return {}

    async def cancel(self, ctx: Context, params: TaskParams) -> JsonObject:
        """Stops the task's job; one that has ended, or that another process runs, goes its way."""
        record = await self._find(ctx, params)
        with suppress(FailedPrecondition):
            await self.jobs().cancel(record.job_id, record.owner)
        return {}

    async def _find(self, ctx: Context, params: TaskParams) -> JobRecord:
        """The job of a task; -32601 to an era that knows no tasks, -32021 without the extension, -32602 for no task."""
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            raise MCPError(t.METHOD_NOT_FOUND, "Method not found", ctx.method)
        if not knows_tasks(ctx):
            lacking: JsonObject = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
            raise MCPError(t.MISSING_REQUIRED_CLIENT_CAPABILITY, "This needs the tasks extension", lacking)
        named = getattr(ctx.request, "headers", {}).get(MCP_NAME_HEADER)
        if named is not None and decode_header_value(named) != params.task_id:
            raise MCPError(t.HEADER_MISMATCH, f"{MCP_NAME_HEADER} does not name the task of the request")
        try:
            return await self.jobs().get(params.task_id, self.owner(ctx))
        except NotFound:
            raise MCPError(t.INVALID_PARAMS, "There is no such task") from None


def knows_tasks(ctx: Context) -> bool:
    """Whether this very request declares the extension, in the era that has it."""
    declared = ctx.session.client_capabilities
    is_modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    return is_modern and declared is not None and EXTENSION in (declared.extensions or {})


def _task(record: JobRecord) -> JsonObject:
    """The task's own fields; jobs are kept without end."""
    shown: JsonObject = {
        "taskId": record.job_id,
        "status": record.state,
        "createdAt": written(record.created_at),
        "lastUpdatedAt": written(record.updated_at),
        "ttlMs": None,
        "pollIntervalMs": POLL_MS,
    }
    return {**shown, "statusMessage": record.progress} if record.progress else shown
