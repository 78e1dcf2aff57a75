"""A real HTTP site for tests: the real app and stores on a real uvicorn, on a port of the system's choice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from kheish_mcp.daemon import Daemon, open_daemon
from kheish_mcp.mcp_server.server import Face, KheishServer
from kheish_mcp.settings import Address, Settings
from kheish_mcp.stores.tokens import TokenStore
from kheish_mcp.transports.access import Access, Issuer, Signer
from kheish_mcp.transports.guards import Names
from kheish_mcp.transports.http import App, make_app
from kheish_mcp.transports.limits import Limits
from kheish_mcp.transports.serving import Front, HttpServer, listen_on
from kheish_mcp.trust import trust_of

TRANSPORTS = ("streamable", "sse")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a site is reached, what stands behind it, and the event that stops it."""

    port: int
    daemon: Daemon
    tokens: TokenStore
    app: App
    server: HttpServer
    stop: anyio.Event
    stopped: anyio.Event

    @property
    def base(self) -> str:
        """Its URL without a path."""
        return f"http://127.0.0.1:{self.port}"

    def http(self, token: str | None = None, **more: Any) -> httpx2.AsyncClient:
        """A plain HTTP client."""
        return plain(self.base, token, **more)

    def client(
        self, transport: str = "streamable", mode: str = "2026-07-28", token: str | None = None, **more: Any
    ) -> AbstractAsyncContextManager[Client]:
        """An MCP client."""
        return connected(self.base, transport, mode, token, **more)

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare socket to it."""
        return await asyncio.open_connection("127.0.0.1", self.port)


def plain(base: str, token: str | None = None, **more: Any) -> httpx2.AsyncClient:
    """A plain HTTP client of a site."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx2.AsyncClient(
        base_url=base, headers=headers, timeout=30, trust_env=False, verify=trust_of(base), **more
    )


@asynccontextmanager
async def connected(
    base: str, transport: str, mode: str, token: str | None = None, **more: Any
) -> AsyncGenerator[Client]:
    """An MCP client of the site whose URLs begin with `base`."""
    async with plain(base, token) as http:
        wire = (
            streamable_http_client(f"{base}/mcp", http_client=http)
            if transport == "streamable"
            else sse_client(f"{base}/sse", headers=dict(http.headers))
        )
        async with Client(wire, mode=mode, cache=None, **more) as client:
            yield client


@asynccontextmanager
async def opened_site(
    env: Mapping[str, str],
    cwd: Path,
    *,
    limits: Limits | None = None,
    front: Front | None = None,
    names: tuple[str, ...] = (),
    issuer: Issuer | None = None,
    server: Callable[[Face], KheishServer] = KheishServer,
    **options: Any,
) -> AsyncGenerator[Site]:
    """A site over the state root that `env` names, open to this machine until there is a token."""
    limits, front = limits or Limits(), front or Front()
    settings = Settings.load(env, cwd=cwd, transport="http", **options)
    async with open_daemon(settings) as daemon, anyio.create_task_group() as group:
        tokens = TokenStore(daemon.database)
        access = Access(tokens, issuer)
        await access.check_bind("127.0.0.1")
        signer = await Signer.of(daemon.database)
        app = make_app(daemon, access, signer, Names(names), limits=limits, server=server)
        sockets = listen_on(Address("127.0.0.1", 0))
        serving = HttpServer(app, front, limits)
        site = Site(sockets[0].getsockname()[1], daemon, tokens, app, serving, anyio.Event(), anyio.Event())

        async def serve() -> None:
            await serving.serve(sockets, site.stop, daemon.drain)
            site.stopped.set()

        group.start_soon(serve)
        try:
            yield site
        finally:
            site.stop.set()
            with anyio.fail_after(30, shield=True):
                await site.stopped.wait()
