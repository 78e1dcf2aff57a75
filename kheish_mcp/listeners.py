"""Who hears of changes: clients of both protocol eras."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)

log = logging.getLogger(__name__)

PATIENCE_S: Final = 5.0


class Listeners:
    """The open connections of the handshake era, and the listen streams of the era after it.

    Connections of the handshake era are told on their own channel; the SDK has no broadcast for them, so each is
    noted when it initializes (`remember` is a middleware) and forgotten when it closes.
    """

    def __init__(self) -> None:
        self._bus = InMemorySubscriptionBus()
        self._legacy: dict[Connection, set[str]] = {}
        self.listen = ListenHandler(self._bus)

    @property
    def audience(self) -> int:
        """How many connections of the handshake era there are to be told."""
        return len(self._legacy)

    async def remember(self, ctx: ServerRequestContext[Any], call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        """Middleware: notes a connection once its handshake is done."""
        result = await call_next(ctx)
        if ctx.method == "initialize":
            connection = ctx.session._connection
            self._legacy[connection] = set()
            connection.exit_stack.callback(self._legacy.pop, connection, None)
        return result

    def subscribe(self, ctx: ServerRequestContext[Any], uri: str) -> None:
        """A handshake-era client wants to hear of one resource."""
        self._legacy.setdefault(ctx.session._connection, set()).add(uri)

    def unsubscribe(self, ctx: ServerRequestContext[Any], uri: str) -> None:
        """A handshake-era client no longer wants to."""
        self._legacy.get(ctx.session._connection, set()).discard(uri)

    async def tools_changed(self) -> None:
        """tools/list gives something else now."""
        await self._bus.publish(ToolsListChanged())
        await self._tell("notifications/tools/list_changed", None)

    async def resources_changed(self) -> None:
        """resources/list gives something else now."""
        await self._bus.publish(ResourcesListChanged())
        await self._tell("notifications/resources/list_changed", None)

    async def resource_updated(self, uri: str) -> None:
        """One resource reads differently now."""
        await self._bus.publish(ResourceUpdated(uri=uri))
        await self._tell("notifications/resources/updated", {"uri": uri}, uri)

    async def _tell(self, method: str, params: dict[str, Any] | None, uri: str | None = None) -> None:
        async with anyio.create_task_group() as group:
            for connection, uris in list(self._legacy.items()):
                if uri is None or uri in uris:
                    group.start_soon(self._tell_one, connection, method, params)

    async def _tell_one(self, connection: Connection, method: str, params: dict[str, Any] | None) -> None:
        """Tells one; who does not take it in time is told nothing more, and keeps nobody else from hearing."""
        with anyio.move_on_after(PATIENCE_S) as waiting:
            try:
                await connection.notify(method, params)
            except Exception:
                log.debug("a connection could not be told of a change", exc_info=True)
        if waiting.cancelled_caught:
            self._legacy.pop(connection, None)
