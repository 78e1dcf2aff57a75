"""An HTTP server on sockets of ours, until a signal comes: it drains, a second signal ends it at once."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import uvicorn
from anyio.abc import TaskStatus

from ..errors import ConfigError, FailedPrecondition
from ..settings import Address
from .connections import connection_class
from .http import App
from .limits import Limits

log = logging.getLogger(__name__)

BACKLOG: Final = 2048


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


class Server(uvicorn.Server):
    """uvicorn without its signal handling: it would raise the signal again at the end, which is no exit code 0."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


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


async def serve_http(
    server: Server, app: App, sockets: Sequence[socket.socket], stop: anyio.Event, drain: Callable[[], Awaitable[None]]
) -> None:
    """Serves until `stop`; then the app leaves, and `drain` waits for what is paid for."""
    async with anyio.create_task_group() as group:
        group.start_soon(_leave, stop, server, app)
        await server.serve(list(sockets))
        await drain()
        group.cancel_scope.cancel()


async def _leave(stop: anyio.Event, server: uvicorn.Server, app: App) -> None:
    await stop.wait()
    server.should_exit = True
    await app.leave()


def make_server(app: App, front: Front, limits: Limits) -> Server:
    """A server of the app; ConfigError where the certificate cannot be used."""
    if front.key is not None and front.certificate is None:
        raise ConfigError("--tls-key is of no use without --tls-cert.", hint="Name the certificate too.")
    config = uvicorn.Config(
        app,
        http=connection_class(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(front.trusted),
        forwarded_allow_ips=list(front.trusted),
        root_path=front.root_path,
        timeout_keep_alive=limits.keep_alive_s,
        timeout_graceful_shutdown=round(limits.grace_s) + 10,
        h11_max_incomplete_event_size=limits.head_bytes,
        ssl_certfile=front.certificate,
        ssl_keyfile=front.key,
    )
    try:
        config.load()
    except OSError:
        raise ConfigError(
            "The certificate cannot be used.", hint="Look at the files of --tls-cert and --tls-key."
        ) from None
    return Server(config)


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
