"""The floor of a paid call: a bare server that asks the provider and throws the picture away. URL and key are arguments."""

from __future__ import annotations

import base64
import sys
from typing import Any

import anyio
import httpx2
import mcp_types as t
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server

URL, KEY = sys.argv[1:3]


async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
    """One tool."""
    schema = {"type": "object", "properties": {}}
    return t.ListToolsResult(tools=[t.Tool(name="generate_image", input_schema=schema)])


async def main() -> None:
    """Serves one client."""
    limits = httpx2.Limits(max_connections=64)
    async with httpx2.AsyncClient(timeout=60, limits=limits, trust_env=False) as http:

        async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
            given = params.arguments or {}
            body = {name: given[name] for name in ("prompt", "model", "size")}
            answer = await http.post(f"{URL}/images", json=body, headers={"Authorization": f"Bearer {KEY}"})
            sizes = [len(base64.b64decode(each["b64_json"])) for each in answer.json()["data"]]
            return t.CallToolResult(content=[t.TextContent(type="text", text=str(sizes))])

        server: Server[Any] = Server("bare", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
