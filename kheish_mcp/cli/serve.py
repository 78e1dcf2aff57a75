"""Serve MCP clients: over stdio, as client configurations launch it, or over HTTP."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import ConfigError
from ..settings import Address, Settings, record_serve, withdraw_secrets
from .frame import Frame, awaited, command_group
from .seclusion import keep_to_itself, start_logging

if TYPE_CHECKING:
    from ..daemon import Daemon

app = command_group(__doc__)


@app.command()
def serve(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    transport: Annotated[Literal["http", "stdio"], typer.Option(help="stdio is what client configs launch.")] = "http",
    bind: Annotated[str | None, typer.Option(help="Address for http, 127.0.0.1:4000 by default.")] = None,
    workspace_root: Annotated[str | None, typer.Option(help="The folder that tools may read and write.")] = None,
    routes_file: Annotated[str | None, typer.Option(help="The routes.toml to use.")] = None,
    default_route: Annotated[str | None, typer.Option(help="The route that answers where a call names none.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 where a route cannot be used.")] = False,
    allowed_host: Annotated[list[str] | None, typer.Option(help="Another name under which clients reach it.")] = None,
    root_path: Annotated[str, typer.Option(help="The path that a proxy serves it under, such as /kheish.")] = "",
    trust_proxy: Annotated[
        list[str] | None, typer.Option(help="Address of a proxy whose forwarded headers count.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="The certificate chain, to serve https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key.")] = None,
    oauth_issuer: Annotated[str, typer.Option(help="The OAuth issuer whose tokens are taken too.")] = "",
    oauth_audience: Annotated[str, typer.Option(help="The audience that its tokens must be for.")] = "",
) -> None:
    """Serve until the client goes away, or until a signal comes."""
    frame: Frame = ctx.obj
    settings = frame.settings(
        transport=transport,
        bind=bind,
        workspace_root=workspace_root,
        routes_file=routes_file,
        default_route=default_route,
    )
    withdraw_secrets()
    keep_to_itself()
    start_logging(settings.log_level)
    if transport == "stdio":
        awaited(_over_stdio, settings, strict)
    else:
        proxies = tuple(trust_proxy or ())
        oauth = (oauth_issuer, oauth_audience)
        place = _Place(tuple(allowed_host or ()), root_path, proxies, tls_cert, tls_key, oauth)
        awaited(_over_http, settings, strict, place)


@dataclass(frozen=True, slots=True)
class _Place:
    """The options that only the HTTP transport has."""

    allowed_hosts: tuple[str, ...]
    root_path: str
    proxies: tuple[str, ...]
    certificate: Path | None
    key: Path | None
    oauth: tuple[str, str]


@contextmanager
def _loading() -> Generator[None]:
    """Imports without a look for garbage: thousands of classes come to stay (50 to 100 ms of a start, measured)."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


async def _over_stdio(settings: Settings, strict: bool) -> None:
    with _loading():
        from ..transports.stdio import claim_stdio, serve_stdio

        # Before anything else is loaded: a native library may print.
        wire_in, wire_out = claim_stdio()
        from ..daemon import open_daemon
        from ..mcp_server.server import Face, KheishServer

    record_serve(settings)
    async with open_daemon(settings) as daemon:
        if strict:
            _insist(daemon)
        face = Face(lambda: daemon.parts, daemon.runtime, daemon.listeners)
        await serve_stdio(KheishServer(face), wire_in, wire_out, daemon.drain)


async def _over_http(settings: Settings, strict: bool, place: _Place) -> None:
    with _loading():
        from ..daemon import open_daemon
        from ..stores.tokens import TokenStore
        from ..transports.access import Access, Signer, is_loopback
        from ..transports.guards import Names
        from ..transports.http import make_app
        from ..transports.limits import Limits
        from ..transports.oauth import ResourceServer
        from ..transports.serving import Front, HttpServer, allow_connections, listen_on, stopping_on_signals

    record_serve(settings)
    _make_workspace(settings.workspace_root)
    names = (settings.bind.host, *place.allowed_hosts)
    front = Front(place.root_path, place.proxies, place.certificate, place.key)
    async with open_daemon(settings) as daemon:
        if strict:
            _insist(daemon)
        access = Access(TokenStore(daemon.database), ResourceServer(*place.oauth) if any(place.oauth) else None)
        # A name that strangers reach it by counts as much as an address that they do.
        await access.check_bind(next((name for name in names if not is_loopback(name)), settings.bind.host))
        limits = allow_connections(Limits())
        signer = await Signer.of(daemon.database)
        app = make_app(daemon, access, signer, Names(names), limits=limits)
        server = HttpServer(app, front, limits)
        sockets = listen_on(settings.bind)
        _announce(settings.bind, sockets[0].getsockname()[1], front.url_scheme, place.root_path)
        async with stopping_on_signals() as stop:
            await server.serve(sockets, stop, daemon.drain)


def _make_workspace(root: Path | None) -> None:
    """The folder that `--workspace-root` names, made like the state root; where it cannot be, calls and `doctor` say so.

    Over stdio it is not made: there the name comes from a host's file, and may be a placeholder that nobody filled in.
    """
    if root is not None:
        with suppress(OSError):
            root.mkdir(parents=True, exist_ok=True)


def _announce(bind: Address, port: int, scheme: str, root_path: str) -> None:
    """Says on stderr where clients connect; with port 0 nobody would know else."""
    base = f"{scheme}://{Address(bind.host, port)}{root_path}"
    print(f"Serving MCP at {base}/mcp and, for older clients, {base}/sse.", file=sys.stderr, flush=True)


def _insist(daemon: Daemon) -> None:
    """ConfigError where routes.toml or a route of it cannot be used."""
    troubles = [daemon.inventory.trouble] if daemon.inventory.trouble else []
    troubles += [
        f"route {offer.route_id}: {offer.absence.reason}"
        for offer in daemon.inventory.catalog.offers
        if offer.absence is not None
    ]
    if troubles:
        raise ConfigError(f"Not everything can be used: {'; '.join(troubles)}", hint="kheish-daemon runtime get")
