"""Whether the caller of a request said stop, has only left, or is still there."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.dispatcher import as_request_id, coerce_request_id

Context = ServerRequestContext[Any]

# A client whose own patience is over sends a cancellation too, and says so: "timed out after 60s" (Python SDK 2.3),
# "Request timed out", "Maximum total timeout exceeded" (TypeScript SDK). It gave up waiting and wants the work all the same.
OUT_OF_PATIENCE: Final = re.compile(r"tim(?:e|ed)[ -]?out", re.IGNORECASE)
WORD_S: Final = 0.5


@dataclass(slots=True)
class _Word:
    """What a client says when it cancels a request."""

    heard: anyio.Event = field(default_factory=anyio.Event)
    reason: str = ""


class Departures:
    """The calls under way, and what was said of them by notifications/cancelled.

    The SDK (mcp 2.3.0) cancels a handler alike when it is told to and when its client is gone; it marks the request in
    the first case, and hands the notification on afterwards. `listen` is a middleware.
    """

    def __init__(self) -> None:
        self._words: dict[tuple[int, object], _Word] = {}

    async def listen(self, ctx: Context, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        """Keeps a place for what may be said of a call for as long as it runs, and puts there what is said."""
        if ctx.method == "notifications/cancelled":
            self._hear(ctx)
        if ctx.method != "tools/call":
            return await call_next(ctx)
        place = _place(ctx, ctx.request_id)
        self._words[place] = _Word()
        try:
            return await call_next(ctx)
        finally:
            self._words.pop(place, None)

    def _hear(self, ctx: Context) -> None:
        said = ctx.params or {}
        word = self._words.get(_place(ctx, as_request_id(said.get("requestId"))))
        if word is not None:
            word.reason = str(said.get("reason") or "")
            word.heard.set()

    async def wants_stop(self, ctx: Context) -> bool:
        """Of a request that was cancelled: whether its client said so, for another reason than lost patience."""
        word = self._words.get(_place(ctx, ctx.request_id))
        if word is None or not _was_told(ctx):
            return False
        with anyio.move_on_after(WORD_S):
            await word.heard.wait()
        return not OUT_OF_PATIENCE.search(word.reason)


async def is_there(ctx: Context) -> bool:
    """Whether an answer given now would reach its client, as far as can be seen.

    The handshake era's HTTP transport lets a handler run on when its client has gone; the request knows of it.
    """
    if _was_told(ctx):
        return False
    gone = getattr(ctx.request, "is_disconnected", None)
    return gone is None or not await gone()


def _was_told(ctx: Context) -> bool:
    return ctx.session._request_outbound.cancel_requested.is_set()


def _place(ctx: Context, request_id: int | str | None) -> tuple[int, object]:
    """One conversation's request: ids are the client's, and two clients may use the same."""
    return id(ctx.session._connection.outbound), coerce_request_id(request_id) if request_id is not None else None
