"""A browser's visit to this machine, which brings the code of a sign-in."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import parse_qs, urlsplit

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from ..errors import PermissionDenied

LARGEST_HEAD: Final = 16 << 10
LONGEST_CODE: Final = 512
PATIENCE_S: Final = 10.0
ANSWER: Final = (
    "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n"
    "Referrer-Policy: no-referrer\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{page}"
)
DONE: Final = "<title>Kheish</title><p>You are signed in. Close this window and go back to the terminal.</p>"
REFUSED: Final = "<title>Kheish</title><p>Nothing was signed in. Go back to the terminal.</p>"
LOST: Final = "<title>Kheish</title><p>There is nothing here.</p>"


class Callback:
    """Waits on localhost for the one visit that carries its state; every other one is answered and means nothing."""

    def __init__(self, port: int) -> None:
        self._state = secrets.token_urlsafe(16)
        self._code: str | None = None
        self._came = anyio.Event()
        self.url = f"http://localhost:{port}/callback?state={self._state}"

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncGenerator[Callback]:
        """Listens on a free port until the block ends."""
        async with (
            await anyio.create_tcp_listener(local_host="localhost") as listener,
            anyio.create_task_group() as group,
        ):
            callback = cls(listener.extra(SocketAttribute.local_port))  # noqa: S610 - anyio's, not Django's
            group.start_soon(listener.serve, callback._visit)
            yield callback
            group.cancel_scope.cancel()

    async def code(self) -> str:
        """The code, once it is there; PermissionDenied where the user, or the provider, said no."""
        await self._came.wait()
        if self._code is None:
            raise PermissionDenied("The sign-in was refused.", hint="Begin again, and allow it in the browser.")
        return self._code

    async def _visit(self, stream: SocketStream) -> None:
        """One connection: a request's head is read and answered; what is slow, long or broken is dropped."""
        with suppress(anyio.BrokenResourceError, anyio.EndOfStream, anyio.DelimiterNotFound, anyio.IncompleteRead):
            async with stream:
                with anyio.move_on_after(PATIENCE_S):
                    head = await BufferedByteReceiveStream(stream).receive_until(b"\r\n\r\n", LARGEST_HEAD)
                    status, page = self._answer(head.split(b"\r\n", 1)[0].decode("latin-1"))
                    await stream.send(ANSWER.format(status=status, length=len(page), page=page).encode())

    def _answer(self, line: str) -> tuple[str, str]:
        """The status and the page for a request line; the code or a no is taken from it where its state is ours."""
        method, _, rest = line.partition(" ")
        try:
            target = urlsplit(rest.rpartition(" ")[0])
        except ValueError:  # half of an IPv6 address
            return "404 Not Found", LOST
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        is_ours = hmac.compare_digest(query.get("state", "").encode(), self._state.encode())
        if (method, target.path) != ("GET", "/callback") or not is_ours or self._came.is_set():
            return "404 Not Found", LOST
        code = query.get("code", "")
        if 0 < len(code) <= LONGEST_CODE and code.isascii() and code.isprintable():
            self._code = code
        self._came.set()
        return ("200 OK", DONE) if self._code else ("400 Bad Request", REFUSED)
