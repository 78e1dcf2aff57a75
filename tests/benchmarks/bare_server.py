"""The floor: a bare low-level MCP server with the SDK's own stdio transport, and nothing behind it."""

from __future__ import annotations

import base64
import os
import sys
from typing import Any

import anyio
import mcp_types as t
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server

PICTURE = os.urandom(int(sys.argv[1]))
BLOB = os.urandom(int(sys.argv[2]))


async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
    """One tool without arguments, one that sends a picture."""
    schema = {"type": "object", "properties": {}}
    return t.ListToolsResult(tools=[t.Tool(name=name, input_schema=schema) for name in ("nothing", "picture")])


async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
    """A short text, or a picture as it is."""
    if params.name == "nothing":
        return t.CallToolResult(content=[t.TextContent(type="text", text='{"models": [], "truncated": false}')])
    data = base64.b64encode(PICTURE).decode("ascii")
    return t.CallToolResult(content=[t.ImageContent(type="image", data=data, mime_type="image/png")])


async def read_resource(ctx: Any, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
    """The blob."""
    blob = base64.b64encode(BLOB).decode("ascii")
    return t.ReadResourceResult(
        contents=[t.BlobResourceContents(uri=params.uri, mime_type="application/octet-stream", blob=blob)]
    )


async def main() -> None:
    """Serves one client."""
    server: Server[Any] = Server(
        "bare", version="1", on_list_tools=list_tools, on_call_tool=call_tool, on_read_resource=read_resource
    )
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
