"""MCP over HTTP: Streamable HTTP for both eras, and the SSE transport before it, over one server."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import anyio
from anyio.abc import TaskStatus
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import ResourceExhausted, Unavailable
from .envelopes import mending
from .limits import Limits
from .single import single

log = logging.getLogger(__name__)

LISTEN: Final = "subscriptions/listen"
SETTLE_S: Final = 0.05
BUSY_S: Final = 30.0


class Tally:
    """How many of a kind are running."""

    def __init__(self) -> None:
        self._running = 0
        self._idle = anyio.Event()

    @contextmanager
    def one(self) -> Generator[None]:
        """One more, for the length of the block."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def idle(self) -> None:
        """Waits until none is running."""
        while self._running:
            self._idle = anyio.Event()
            await self._idle.wait()


class Conversations:
    """Every conversation of one process, the calls that run in them, and the way to end them all.

    Names and origins are checked in front of this, so the SDK's own check, which knows no `--allowed-host`, stays off.
    """

    def __init__(self, server: Server[Any], limits: Limits) -> None:
        self.server = server
        self.limits = limits
        self.streamable = StreamableHTTPSessionManager(
            server,
            max_request_body_size=limits.message_bytes,
            session_idle_timeout=limits.session_idle_s,
            max_sessions=limits.sessions,
        )
        self.sse = SseServerTransport("/messages/", max_request_body_size=limits.message_bytes)
        self._streams: set[anyio.CancelScope] = set()
        self.calls = Tally()
        self.subscriptions = Tally()
        self._end = anyio.Event()
        server.middleware.append(self._count)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Holds conversations until the block ends, or `end` is called."""
        async with anyio.create_task_group() as group:
            await group.start(self._hold_sessions)
            yield
            self.end()

    async def _hold_sessions(self, *, task_status: TaskStatus[None]) -> None:
        async with self.streamable.run():
            task_status.started()
            await self._end.wait()

    async def over_streamable(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`/mcp`: a call has ended once its answer is sent; the stream of a GET never is."""
        self._refuse_late()
        self._refuse_large(scope)
        if scope["method"] == "GET":
            return await self.streamable.handle_request(scope, receive, send)
        with self._tally(Headers(scope=scope).get("mcp-method", "")).one():
            return await self.streamable.handle_request(scope, receive, mending(single(send)))

    async def over_sse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`/sse`: a stream for as long as the client stays."""
        if scope["method"] == "HEAD":
            return await Response(media_type="text/event-stream")(scope, receive, send)
        self._refuse_late()
        if len(self._streams) >= self.limits.streams:
            raise Unavailable(
                "There are too many open streams.", hint="Use /mcp.", retryable=True, retry_after_s=BUSY_S
            )
        async with self.sse.connect_sse(scope, receive, send) as (read, write):
            with anyio.CancelScope() as stream:
                self._streams.add(stream)
                try:
                    await self.server.run(read, write, self.server.create_initialization_options())
                finally:
                    self._streams.discard(stream)
        return None

    async def post_message(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`/messages/`: what the client of a stream sends."""
        self._refuse_late()
        self._refuse_large(scope)
        await self.sse.handle_post_message(scope, receive, send)

    async def finish(self) -> None:
        """Waits until every call and subscription has ended and said its last words."""
        await self.calls.idle()
        await self.subscriptions.idle()
        if self._streams:
            # Over SSE a call ends a few turns of the loop before its answer is on the stream.
            await anyio.sleep(SETTLE_S)

    def end(self) -> None:
        """Ends every stream and session, and lets no new one begin."""
        self._end.set()
        for stream in tuple(self._streams):
            stream.cancel()

    async def _count(self, ctx: ServerRequestContext[Any], call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        """Middleware: knows what is running."""
        with self._tally(ctx.method).one():
            return await call_next(ctx)

    def _tally(self, method: str) -> Tally:
        return self.subscriptions if method == LISTEN else self.calls

    def _refuse_large(self, scope: Scope) -> None:
        """What does not say how large it is, the SDK cuts off at the same limit."""
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared[:18]) > self.limits.message_bytes:
            most = f"At most {self.limits.message_bytes:,} bytes; a file is sent with POST /assets and named by its id."
            raise ResourceExhausted("This message is too large.", hint=most)

    def _refuse_late(self) -> None:
        if self._end.is_set():
            raise Unavailable(
                "The daemon is stopping.", hint="Connect again in a moment.", retryable=True, retry_after_s=1.0
            )
