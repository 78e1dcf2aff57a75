"""One thread, one loop and some listening sockets: uvicorn's protocol without uvicorn's process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

Application = Callable[[Any, Any, Any], Awaitable[None]]


class Wired(H11Protocol):
    """The HTTP protocol, which also hands its transport to the application, so that a fault can cut the wire."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Adds `transport` to every scope of the connection."""
        super().connection_made(transport)
        served = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            with contextlib.suppress(asyncio.CancelledError):  # only `stop` cancels, and uvicorn would log it
                await served({**scope, "transport": transport}, receive, send)

        self.app = with_transport


def reset(transport: asyncio.Transport) -> None:
    """Ends the connection with a RST instead of a FIN."""
    with contextlib.suppress(OSError):  # the client has hung up first
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def listen(port: int = 0) -> socket.socket:
    """A socket on 127.0.0.1; port 0 takes a free one."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", port))
    return taken


class Serving:
    """Applications on sockets in a thread of their own; `stop` leaves no socket, task or loop behind."""

    def __init__(self, *origins: tuple[Application, socket.socket]) -> None:
        self._origins = origins
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="emulator", daemon=True)
        self._states = [ServerState() for _ in origins]

    def start(self) -> None:
        """Returns once every socket answers."""
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the stand-in did not start")

    def stop(self) -> None:
        """Cuts what is open and joins the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        if self._thread.is_alive():
            raise TimeoutError("the stand-in did not stop")

    def call(self, action: Callable[[], object]) -> None:
        """Runs an action in the loop."""
        self._loop.call_soon_threadsafe(action)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        servers = [await self._listen(*pair) for pair in zip(self._origins, self._states, strict=True)]
        self._ready.set()
        await self._stopping.wait()
        for server in servers:
            server.close()
        await self._cut()
        for server in servers:
            await server.wait_closed()

    async def _listen(self, origin: tuple[Application, socket.socket], state: ServerState) -> asyncio.Server:
        application, taken = origin
        config = Config(
            application,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="none",
            proxy_headers=False,
            interface="asgi3",
        )
        config.load()
        return await self._loop.create_server(lambda: Wired(config, state, {}), sock=taken)

    async def _cut(self) -> None:
        tasks = [task for state in self._states for task in state.tasks]
        for state in self._states:
            for connection in list(state.connections):
                connection.transport.abort()
        await asyncio.sleep(0)  # lets every connection notice, or uvicorn would want to answer
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
