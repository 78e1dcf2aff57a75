"""Real clients for tests: the official one, over stdio, in both protocol eras, against the real program."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as t
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

ERAS = ("2026-07-28", "legacy")


@asynccontextmanager
async def stdio_client(
    env: Mapping[str, str], *options: str, mode: str = "2026-07-28", **more: Any
) -> AsyncGenerator[Client]:
    """A client whose server is `kheish-daemon serve --transport stdio` as a child process."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "kheish_mcp", "serve", "--transport", "stdio", *options], env=dict(env)
    )
    async with Client(server, mode=mode, cache=None, **more) as client:
        yield client


def result_object(result: t.CallToolResult, place: int = 0) -> dict[str, Any]:
    """The JSON object in a block of a result, the first by default."""
    block = result.content[place]
    assert isinstance(block, t.TextContent)
    value = json.loads(block.text)
    assert isinstance(value, dict)
    return value


async def call(client: Client, name: str, /, **arguments: Any) -> dict[str, Any]:
    """Calls a tool that has to work, and gives its result object."""
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result_object(result)
    return result_object(result, -1 if name == "emit_output" else 0)


async def refused(client: Client, name: str, /, **arguments: Any) -> dict[str, Any]:
    """Calls a tool that has to refuse, and gives the refusal's object."""
    result = await client.call_tool(name, arguments)
    assert result.is_error, result_object(result)
    error = result_object(result)["error"]
    assert isinstance(error, dict)
    return error
