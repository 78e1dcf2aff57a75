"""An HTTP server on sockets of ours, until a signal comes: it drains, a second signal ends it at once."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from typing import Final

import anyio
import uvicorn
from anyio.abc import TaskStatus
from uvicorn.server import ServerState

from ..errors import ConfigError, FailedPrecondition
from ..settings import Address
from .connections import Connection, connection_class
from .http import App
from .limits import Limits

BACKLOG: Final = 2048
# asyncio takes as many waiting connections in one go as it was told of a backlog; where that is more than there are files
# left, it writes a traceback for each of them (measured with Python 3.11: 35 MB in 7 s).
AT_ONCE: Final = 32
LAST_WORDS_S: Final = 2.0
# What a daemon needs beside its connections: the database, blobs, workers, its own calls to providers.
OTHER_FILES: Final = 256


@dataclass(frozen=True, slots=True)
class Front:
    """What stands before the app: TLS with our own certificate, or a proxy at `trusted` addresses under `root_path`."""

    root_path: str = ""
    trusted: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None

    @property
    def url_scheme(self) -> str:
        """What our own URLs begin with."""
        return "https" if self.certificate else "http"


@asynccontextmanager
async def stopping_on_signals() -> AsyncGenerator[anyio.Event]:
    """An event that the first SIGTERM or SIGINT sets; the second one ends the block at once."""
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        await group.start(_hear_signals, stop, group.cancel_scope)
        yield stop
        group.cancel_scope.cancel()


async def _hear_signals(stop: anyio.Event, scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if stop.is_set():
                scope.cancel()
            stop.set()


class HttpServer:
    """Connections of uvicorn's over sockets of ours; nothing here polls, so that a stop is a matter of milliseconds."""

    def __init__(self, app: App, front: Front, limits: Limits) -> None:
        """ConfigError where the certificate cannot be used."""
        self._app = app
        self._grace_s = limits.grace_s
        self._header_s = limits.header_s
        self._config = _config(app, front, limits)
        self._state = ServerState()
        self._ended = anyio.Event()
        self._kind = connection_class(limits, lambda: self._ended.set())

    async def serve(
        self, sockets: Sequence[socket.socket], stop: anyio.Event, drain: Callable[[], Awaitable[None]]
    ) -> None:
        """Serves until `stop`; then the app leaves, connections end, and `drain` waits for what is paid for."""
        async with self._app.open(), anyio.create_task_group() as group:
            await group.start(self._tell_the_time)
            listening = [await self._listening(each) for each in sockets]
            try:
                await stop.wait()
            finally:
                for each in listening:
                    each.close()
            await self._part()
            group.cancel_scope.cancel()
        await drain()

    async def _listening(self, opened: socket.socket) -> asyncio.Server:
        tls = self._config.ssl
        server = await asyncio.get_running_loop().create_server(
            self._connection,
            sock=opened,
            backlog=AT_ONCE,
            ssl=tls,
            ssl_handshake_timeout=self._header_s if tls else None,
        )
        opened.listen(BACKLOG)  # how many the system lets wait is another number
        return server

    def _connection(self) -> Connection:
        return self._kind(config=self._config, server_state=self._state, app_state={})

    async def _tell_the_time(self, *, task_status: TaskStatus[None]) -> None:
        """Keeps the Date header of answers."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        task_status.started()
        while True:
            await anyio.sleep(1)
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]

    async def _part(self) -> None:
        """Ends every connection: the idle ones now, the others with their answer, or when there was time enough."""
        for each in tuple(self._state.connections):
            each.shutdown()
        await self._app.leave()
        with anyio.move_on_after(self._grace_s):
            await self._gone()
        for each in tuple(self._state.connections):
            each.transport.abort()
        with anyio.move_on_after(LAST_WORDS_S):
            await self._gone()
        for task in self._state.tasks:
            task.cancel()

    async def _gone(self) -> None:
        while self._state.connections:
            self._ended = anyio.Event()
            await self._ended.wait()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks)


def _config(app: App, front: Front, limits: Limits) -> uvicorn.Config:
    if front.key is not None and front.certificate is None:
        raise ConfigError("--tls-key is of no use without --tls-cert.", hint="Name the certificate too.")
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=bool(front.trusted),
        forwarded_allow_ips=list(front.trusted),
        root_path=front.root_path,
        timeout_keep_alive=limits.keep_alive_s,
        h11_max_incomplete_event_size=limits.head_bytes,
        ssl_certfile=front.certificate,
        ssl_keyfile=front.key,
    )
    try:
        config.load()
    except OSError:
        told = "Look at the files of --tls-cert and --tls-key."
        raise ConfigError("The certificate cannot be used.", hint=told) from None
    return config


def allow_connections(limits: Limits) -> Limits:
    """Raises this process's limit on open files as far as it may; the connections that it then has room for.

    A connection may take two: its socket, and the asset that goes over it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * limits.connections + OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES) // 2
    return replace(limits, connections=max(16, min(limits.connections, room)))


def listen_on(address: Address) -> list[socket.socket]:
    """The sockets of an address, one for each that a name stands for, all with one port; FailedPrecondition if taken."""
    sockets: list[socket.socket] = []
    port = address.port
    try:
        found = socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, place in found:
            sockets.append(_bound(socket.socket(family, kind, protocol), (place[0], port, *place[2:])))
            port = port or sockets[0].getsockname()[1]
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise FailedPrecondition(
            f"{address} cannot be listened on ({error.strerror}).", hint="Name another address with --bind."
        ) from None
    return sockets


def _bound(opened: socket.socket, place: tuple[object, ...]) -> socket.socket:
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if opened.family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(place)
        opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened
