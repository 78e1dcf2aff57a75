"""Who hears of changes: clients of both protocol eras, each of what is its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import mcp_types as t
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError

from ..principals import Principal
from ..scopes import scope_for

log = logging.getLogger(__name__)

Context = ServerRequestContext[Any]
Hears = Callable[[Principal], bool]

PATIENCE_S: Final = 5.0
MOST_STREAMS: Final = 4096


@dataclass(frozen=True, slots=True)
class Ear:
    """Whose an open connection of the handshake era is, and which resources it wants to hear of."""

    principal: Principal
    uris: set[str] = field(default_factory=set)


class Listeners:
    """The open connections of the handshake era, and the listen streams of the era after it.

    Connections of the handshake era are told on their own channel; the SDK has no broadcast for them, so each is
    noted once it has initialized, and forgotten when it closes. Nobody hears that somebody else's list has changed.
    """

    def __init__(self) -> None:
        self._legacy: dict[Connection, Ear] = {}
        # A bus for each stream: the SDK's own goes to all alike.
        self._streams: dict[ListenHandler, tuple[Principal, InMemorySubscriptionBus]] = {}

    @property
    def audience(self) -> int:
        """How many connections of the handshake era there are to be told."""
        return len(self._legacy)

    def note(self, ctx: Context, principal: Principal) -> None:
        """A connection has done its handshake."""
        connection = ctx.session._connection
        self._legacy[connection] = Ear(principal)
        connection.exit_stack.callback(self._legacy.pop, connection, None)

    async def listen(
        self, ctx: Context, params: t.SubscriptionsListenRequestParams, principal: Principal
    ) -> t.SubscriptionsListenResult:
        """Serves one stream until its client leaves or `close` ends it; refuses one too many."""
        if len(self._streams) >= MOST_STREAMS:
            raise MCPError(t.INTERNAL_ERROR, "There are too many subscriptions.")
        bus = InMemorySubscriptionBus()
        handler = ListenHandler(bus)
        self._streams[handler] = (principal, bus)
        try:
            return await handler(ctx, params)
        finally:
            del self._streams[handler]

    def close(self) -> None:
        """Ends every stream, so that its client knows that it was meant."""
        for handler in tuple(self._streams):
            handler.close()

    def subscribe(self, ctx: Context, uri: str) -> None:
        """A handshake-era client wants to hear of one resource; whether there is one is not said."""
        ear = self._legacy.get(ctx.session._connection)
        if ear is not None:
            ear.uris.add(uri)

    def unsubscribe(self, ctx: Context, uri: str) -> None:
        """A handshake-era client no longer wants to."""
        ear = self._legacy.get(ctx.session._connection)
        if ear is not None:
            ear.uris.discard(uri)

    async def tools_changed(self) -> None:
        """tools/list gives something else now to all who may call tools."""
        await self._tell(lambda who: who.may(scope_for("tools/call")), ToolsListChanged(), "tools/list_changed")

    async def resources_changed(self, owners: Collection[str] | None = None) -> None:
        """resources/list gives something else now to these owners; None means to all."""
        changed = ResourcesListChanged()
        await self._tell(lambda who: owners is None or who.owner in owners, changed, "resources/list_changed")

    async def resource_updated(self, uri: str, owner: str | None = None) -> None:
        """One resource, of one owner or of the daemon, reads differently now."""
        needed = scope_for("resources/read", uri)
        await self._tell(
            lambda who: who.may(needed) and owner in (None, who.owner),
            ResourceUpdated(uri=uri),
            "resources/updated",
            uri,
        )

    async def _tell(
        self,
        hears: Hears,
        event: ToolsListChanged | ResourcesListChanged | ResourceUpdated,
        name: str,
        uri: str | None = None,
    ) -> None:
        for principal, bus in list(self._streams.values()):
            if hears(principal):
                await bus.publish(event)
        async with anyio.create_task_group() as group:
            for connection, ear in list(self._legacy.items()):
                if hears(ear.principal) and (uri is None or uri in ear.uris):
                    told = {"uri": uri} if uri is not None else None
                    group.start_soon(self._tell_one, connection, f"notifications/{name}", told)

    async def _tell_one(self, connection: Connection, method: str, params: dict[str, Any] | None) -> None:
        """Tells one; who does not take it in time is told nothing more, and keeps nobody else from hearing."""
        with anyio.move_on_after(PATIENCE_S) as waiting:
            try:
                await connection.notify(method, params)
            except Exception:
                log.debug("a connection could not be told of a change", exc_info=True)
        if waiting.cancelled_caught:
            self._legacy.pop(connection, None)
