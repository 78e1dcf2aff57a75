"""What every request passes before anything looks at it: its names, and the patience for its body."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import DeadlineExceeded, InvalidArgument, PermissionDenied, ResourceExhausted
from .answers import refusal_answer
from .limits import Limits

HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]{1,5})?")
LOCALHOST: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
UPLOADS: Final = "/assets"
# Each begins one more value of a JSON text. A longest text of commas alone has as many.
MARKS: Final = (b",", b"[", b"{")
MOST_VALUES: Final = 500_000


class Names:
    """The names under which a server may be asked: others come from a page that rebinds its own name to our address.

    A connection's own local address is always one of them; no stranger can bind that to a name.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = LOCALHOST | {_name_of(authority.lower()) for authority in allowed}

    def has(self, authority: str, scope: Scope) -> bool:
        """Whether a `host` or `host:port` is one of them."""
        match = HOST.fullmatch(authority)
        if match is None:
            return False
        name = match[1].lower()
        own = scope.get("server")
        return name in self._allowed or (own is not None and name == _bracketed(str(own[0]).lower()))

    def has_origin(self, origin: str, scope: Scope) -> bool:
        """Whether a page of that origin may ask."""
        scheme, _, authority = origin.partition("://")
        return scheme in ("http", "https") and self.has(authority, scope)


class NameGuard:
    """Answers 421 to a Host and 403 to an Origin that are none of ours, whatever the path."""

    def __init__(self, app: ASGIApp, names: Names) -> None:
        self.app = app
        self.names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what is asked under our own names."""
        if scope["type"] == "http":
            hosts = Headers(scope=scope).getlist("host")
            origins = Headers(scope=scope).getlist("origin")
            if len(hosts) != 1 or not self.names.has(hosts[0], scope):
                error = InvalidArgument("This server has another name.", hint="Start it with --allowed-host NAME.")
                return await refusal_answer(error, 421)(scope, receive, send)
            if not all(self.names.has_origin(origin, scope) for origin in origins):
                told = "Start it with --allowed-host NAME."
                denied = PermissionDenied("Pages of this origin may not ask.", hint=told)
                return await refusal_answer(denied)(scope, receive, send)
        await self.app(scope, receive, send)
        return None


class Simplicity:
    """Takes no message of countless values: 32 MB of `[],[],` are 2 GB and 16 s of the loop once they are parsed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on the request with a `receive` that counts; ResourceExhausted comes out of it."""
        if scope["type"] != "http" or scope["path"].endswith(UPLOADS):
            return await self.app(scope, receive, send)
        values = 0

        async def counted() -> Message:
            nonlocal values
            message = await receive()
            values += sum(message.get("body", b"").count(mark) for mark in MARKS)
            if values > MOST_VALUES:
                raise ResourceExhausted("The message holds far too many values.", hint="Send files to POST /assets.")
            return message

        return await self.app(scope, counted, send)


class Patience:
    """Waits for a body only so long, between two pieces and for the whole; then the request fails with 408.

    Once the body is there, the original `receive` is handed through: whoever waits for a disconnect must not be fed. An
    answer that does not wait for the body ends the connection, so that nobody has to take the rest.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on the request with a `receive` that loses patience."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        whole_s = self.limits.upload_s if scope["path"].endswith(UPLOADS) else self.limits.message_s
        deadline = anyio.current_time() + whole_s
        pending = _has_body(scope)

        async def patient() -> Message:
            nonlocal pending
            if not pending:
                return await receive()
            with anyio.CancelScope(deadline=min(deadline, anyio.current_time() + self.limits.body_idle_s)):
                message = await receive()
                pending = bool(message.get("more_body"))
                return message
            raise DeadlineExceeded("The body came too slowly.", hint="Send it in one go.", retryable=True)

        async def parting(message: Message) -> None:
            if pending and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        return await self.app(scope, patient, parting)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _name_of(authority: str) -> str:
    match = HOST.fullmatch(authority)
    return match[1] if match is not None else _bracketed(authority)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
