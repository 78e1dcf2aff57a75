"""One HTTP app for everything: Streamable HTTP, SSE and health."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import KheishError
from ..mcp_server import Context, Face, KheishServer
from ..principals import Principal
from .access import Access
from .answers import base_url_of, refusal_answer
from .conversations import Conversations
from .gate import Gate, Guarded, principal_of
from .guards import NameGuard, Names, Patience
from .health import Health
from .limits import Limits
from .oauth import PLACES
from .scoped import Scoped
from .served import Served

LAST_WORDS_S: Final = 2.0


class App:
    """An ASGI app over one daemon, which also knows how to leave: calls finish or become jobs, then streams end."""

    def __init__(self, daemon: Served, conversations: Conversations, app: ASGIApp, grace_s: float) -> None:
        self._daemon = daemon
        self._conversations = conversations
        self._app = app
        self._grace_s = grace_s
        self.is_leaving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan."""
        await self._app(scope, receive, send)

    async def leave(self) -> None:
        """Lets calls finish for a moment, answers those that wait for a job with its id, and ends every stream."""
        self.is_leaving = True
        conversations = self._conversations
        with anyio.move_on_after(self._grace_s):
            await conversations.calls.idle()
        self._daemon.parts.jobs.release()
        self._daemon.listeners.close()
        with anyio.move_on_after(LAST_WORDS_S):
            await conversations.finish()
        conversations.end()


def make_app(
    daemon: Served,
    access: Access,
    names: Names,
    *,
    limits: Limits | None = None,
    server: Callable[[Face], KheishServer] = KheishServer,
) -> App:
    """The app of a daemon; `server` makes what speaks MCP, so that a test may mount tools of its own."""
    limits = limits or Limits()
    face = Face(lambda: daemon.parts, daemon.runtime, daemon.listeners, principal=_caller)
    conversations = Conversations(server(face), limits)
    gate = Gate(access, limits)
    health = Health(daemon, lambda: app.is_leaving)

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, KheishError)
        return refusal_answer(error, headers=gate.challenge(error, base_url_of(request)))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with conversations.open():
            yield

    routes = [*_routes(conversations, gate, health), *_sign_in(access)]
    inner = Starlette(routes=routes, exception_handlers={KheishError: refuse}, lifespan=lifespan)
    app = App(daemon, conversations, Patience(NameGuard(inner, names), limits), limits.grace_s)
    return app


def _routes(conversations: Conversations, gate: Gate, health: Health) -> Sequence[BaseRoute]:
    return (
        Route("/mcp", Guarded(gate, Scoped(conversations.over_streamable, gate.challenge))),
        Route("/sse", Guarded(gate, conversations.over_sse), methods=["GET"]),
        Route("/messages/", Guarded(gate, conversations.post_message)),
        Route("/healthz", health.alive),
        Route("/readyz", health.ready),
    )


def _sign_in(access: Access) -> Sequence[BaseRoute]:
    """Where clients read how to get a token of the issuer, if there is one."""
    issuer = access.issuer
    if issuer is None:
        return ()

    async def metadata(request: Request) -> Response:
        return JSONResponse(issuer.metadata(base_url_of(request)), headers={"Cache-Control": "no-store"})

    return tuple(Route(place, metadata) for place in PLACES)


def _caller(ctx: Context) -> Principal:
    """Whom the gate has let in with the request that a call came by."""
    assert isinstance(ctx.request, Request)
    return principal_of(ctx.request)
