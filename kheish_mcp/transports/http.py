"""One HTTP app for everything: Streamable HTTP, SSE, uploads, downloads and health."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import KheishError
from ..mcp_server.reach import Reach
from ..mcp_server.server import Context, Face, KheishServer
from ..principals import Principal
from .access import Access, Signer
from .answers import UNEXPECTED, base_url_of, misdirected, refusal_answer
from .card import Card
from .conversations import Conversations
from .downloads import Downloads
from .gate import Gate, Guarded, principal_of
from .guards import NameGuard, Names, Patience, Simplicity
from .health import Health
from .limits import Limits
from .oauth import PLACES
from .scoped import Scoped
from .served import Served
from .uploads import Uploads

LAST_WORDS_S: Final = 2.0


class App:
    """An ASGI app over one daemon, which also knows how to leave: calls finish or become jobs, then streams end."""

    def __init__(self, daemon: Served, conversations: Conversations, app: ASGIApp, grace_s: float) -> None:
        self._daemon = daemon
        self._conversations = conversations
        self._app = app
        self._grace_s = grace_s
        self.is_leaving = False

    def open(self) -> AbstractAsyncContextManager[None]:
        """Requests are served while the block runs."""
        return self._conversations.open()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
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
    signer: Signer,
    names: Names,
    *,
    limits: Limits | None = None,
    server: Callable[[Face], KheishServer] = KheishServer,
) -> App:
    """The app of a daemon; `server` makes what speaks MCP, so that a test may mount tools of its own."""
    limits = limits or Limits()
    reach = partial(_reach, signer)
    face = Face(lambda: daemon.parts, daemon.runtime, daemon.listeners, principal=_caller, reach=reach)
    conversations = Conversations(server(face), limits)
    gate = Gate(access, limits)
    health = Health(daemon, lambda: app.is_leaving)
    downloads, uploads, card = Downloads(daemon, access, gate, signer), Uploads(daemon), Card(access)

    async def refuse(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return misdirected(error)
        refusal = error if isinstance(error, KheishError) else UNEXPECTED
        return refusal_answer(refusal, headers=gate.challenge(refusal, base_url_of(request)))

    routes: Sequence[BaseRoute] = (
        Route("/mcp", Guarded(gate, Scoped(conversations.over_streamable, gate.challenge))),
        Route("/mcp/server-card", card.get),
        Route("/sse", Guarded(gate, conversations.over_sse), methods=["GET"]),
        Route("/messages/", Guarded(gate, conversations.post_message)),
        Route("/assets/{asset_id}", downloads.get),
        Route("/assets", Guarded(gate, request_response(uploads.post)), methods=["POST"]),
        Route("/healthz", health.alive),
        Route("/readyz", health.ready),
        *_sign_in(access),
    )
    inner = Starlette(routes=routes, exception_handlers=dict.fromkeys((KheishError, HTTPException, Exception), refuse))
    app = App(daemon, conversations, Patience(NameGuard(Simplicity(inner), names), limits), limits.grace_s)
    return app


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


def _reach(signer: Signer, ctx: Context) -> Reach:
    """How the caller gets at files, by the name under which it reached us."""
    assert isinstance(ctx.request, Request)
    base, owner = base_url_of(ctx.request), principal_of(ctx.request).owner
    token = ' -H "Authorization: Bearer $TOKEN"' if "authorization" in ctx.request.headers else ""
    return Reach(lambda asset_id: signer.url_of(asset_id, owner, base), f"curl -F file=@FILE{token} {base}/assets")
