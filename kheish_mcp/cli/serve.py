"""Serve MCP clients: over stdio, as client configurations launch it, or over HTTP."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import anyio
import typer

from ..errors import ConfigError
from ..settings import Settings, record_serve
from .frame import Frame, command_group

if TYPE_CHECKING:
    from ..daemon import Daemon

app = command_group(__doc__)


@app.command()
def serve(
    ctx: typer.Context,
    transport: Annotated[Literal["http", "stdio"], typer.Option(help="stdio is what client configs launch.")] = "http",
    bind: Annotated[str | None, typer.Option(help="Address for http, 127.0.0.1:4000 by default.")] = None,
    workspace_root: Annotated[str | None, typer.Option(help="The folder that tools may read and write.")] = None,
    routes_file: Annotated[str | None, typer.Option(help="The routes.toml to use.")] = None,
    default_route: Annotated[str | None, typer.Option(help="The route that answers where a call names none.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 where a route cannot be used.")] = False,
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
    logging.basicConfig(
        stream=sys.stderr, level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    anyio.run(_over_stdio, settings, strict)


async def _over_stdio(settings: Settings, strict: bool) -> None:
    from ..transports.stdio import claim_stdio, serve_stdio

    # Before anything else is loaded: a native library may print.
    wire_in, wire_out = claim_stdio()
    from ..daemon import open_daemon
    from ..mcp_server import Face, KheishServer

    record_serve(settings)
    async with open_daemon(settings) as daemon:
        if strict:
            _insist(daemon)
        face = Face(lambda: daemon.parts, daemon.runtime, daemon.listeners)
        await serve_stdio(KheishServer(face), wire_in, wire_out, daemon.drain)


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
