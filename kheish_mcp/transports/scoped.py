"""What a caller's scope does not allow is refused at the door: 403, and the scope that it needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import mcp_types as t
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import KheishError, PermissionDenied
from ..scopes import scope_for
from .answers import base_url_of
from .gate import principal_of

LARGEST: Final = 1 << 20


class Scoped:
    """MCP over POST, judged before it is answered.

    From 2026-07-28 on the headers say what a message asks for, and the SDK refuses those that lie. Before that the
    message itself is looked at, up to a mebibyte. Whatever passes here is judged again by the server that it reaches.
    """

    def __init__(self, app: ASGIApp, challenge: Callable[[KheishError, str], Mapping[str, str]]) -> None:
        self._app = app
        self._challenge = challenge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what the caller may ask for."""
        request = Request(scope)
        principal = principal_of(request)
        if request.method == "POST" and not principal.may("admin"):
            method, name = request.headers.get("mcp-method"), request.headers.get("mcp-name")
            asked: list[tuple[str, object, object]] = [(method, name, None)] if method is not None else []
            if method is None:
                body, receive = await _peeked(receive)
                asked = list(_asked(body))
            for what, of, message_id in asked:
                try:
                    principal.check(scope_for(what, of))
                except PermissionDenied as denied:
                    return await self._refusal(denied, request, message_id)(scope, receive, send)
        await self._app(scope, receive, send)
        return None

    def _refusal(self, denied: PermissionDenied, request: Request, message_id: object) -> JSONResponse:
        """The refusal as a JSON-RPC error, which MCP clients read at any status."""
        data = {"code": denied.code.value, **denied.details}
        error = {"code": t.INVALID_PARAMS, "message": denied.message, "data": data}
        headers = {**self._challenge(denied, base_url_of(request)), "Cache-Control": "no-store"}
        return JSONResponse({"jsonrpc": "2.0", "id": message_id, "error": error}, 403, headers)


def _asked(body: bytes) -> Iterator[tuple[str, object, object]]:
    """The methods in a body, each with the resource that it names and its id; nothing of what is no message."""
    try:
        read: Any = json.loads(body)
    except (ValueError, RecursionError):
        return
    for message in read if isinstance(read, list) else [read]:
        if isinstance(message, dict) and isinstance(message.get("method"), str):
            params, message_id = message.get("params"), message.get("id")
            named = params.get("uri") if isinstance(params, dict) else None
            yield message["method"], named, message_id if isinstance(message_id, str | int) else None


async def _peeked(receive: Receive) -> tuple[bytes, Receive]:
    """A body, empty where it is too large to be looked at, and a `receive` that gives all of it once more.

    After that it is the original one: whoever waits for a disconnect must not be fed.
    """
    held: list[Message] = []
    size = 0
    while not held or (held[-1].get("more_body") and size <= LARGEST):
        held.append(await receive())
        size += len(held[-1].get("body", b""))
    body = b"" if held[-1].get("more_body") else b"".join(message.get("body", b"") for message in held)
    rest = iter(held)

    async def again() -> Message:
        return next(rest, None) or await receive()

    return body if size <= LARGEST else b"", again
