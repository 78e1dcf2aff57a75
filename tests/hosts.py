"""Real clients for tests: the official one, in both protocol eras, over stdio or beside the daemon in one process."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as t
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from kheish_mcp.daemon import Daemon, open_daemon
from kheish_mcp.mcp_server.server import Face, KheishServer
from kheish_mcp.settings import Settings

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


@asynccontextmanager
async def daemon_of(env: Mapping[str, str]) -> AsyncGenerator[Daemon]:
    """A daemon in this process, with the settings that a child with these variables would have."""
    async with open_daemon(Settings.load(env, cwd=Path("/"), transport="stdio")) as daemon:
        yield daemon


@asynccontextmanager
async def client_of(daemon: Daemon, mode: str = "2026-07-28", **more: Any) -> AsyncGenerator[Client]:
    """A client of a daemon in this process, through the real server without a wire; the face may be changed by `more`."""
    face = Face(lambda: daemon.parts, daemon.runtime, daemon.listeners)
    async with Client(KheishServer(face), mode=mode, cache=None, **more) as client:
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
