"""The floor over HTTP: the SDK's own transports in a stock uvicorn, and nothing behind them."""

from __future__ import annotations

import base64
import os
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as t
import uvicorn
from mcp.server.lowlevel.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route

BLOB = os.urandom(int(sys.argv[2]))


async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
    """One tool without arguments."""
    return t.ListToolsResult(tools=[t.Tool(name="nothing", input_schema={"type": "object", "properties": {}})])


async def read_resource(ctx: Any, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
    """The blob."""
    blob = base64.b64encode(BLOB).decode("ascii")
    return t.ReadResourceResult(
        contents=[t.BlobResourceContents(uri=params.uri, mime_type="application/octet-stream", blob=blob)]
    )


def make_app(blob: Path) -> Starlette:
    """The app: `/mcp`, `/sse`, `/messages/`, `/blob`, `/assets` (which reads a body and forgets it), `/healthz`."""
    server: Server[Any] = Server("bare", version="1", on_list_tools=list_tools, on_read_resource=read_resource)
    sessions, sse = StreamableHTTPSessionManager(server), SseServerTransport("/messages/")

    async def stream(request: Request) -> Response:
        async with sse.connect_sse(request.scope, request.receive, request._send) as (read, write):
            await server.run(read, write, server.create_initialization_options())
        return Response()

    async def take(request: Request) -> Response:
        return JSONResponse({"byte_length": len(await request.body())})

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def give(request: Request) -> Response:
        return FileResponse(blob)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with sessions.run():
            yield

    routes = [
        Route("/mcp", StreamableHTTPASGIApp(sessions)),
        Route("/sse", stream),
        Mount("/messages/", sse.handle_post_message),
        Route("/assets", take, methods=["POST"]),
        Route("/blob", give),
        Route("/healthz", alive),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "blob").write_bytes(BLOB)
        uvicorn.run(make_app(Path(folder) / "blob"), port=int(sys.argv[1]), log_level="critical")
