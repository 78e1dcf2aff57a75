"""Run by an old client's own Python: lists, calls and reads, and prints what came as JSON; knows nothing of kheish_mcp."""

from __future__ import annotations

import asyncio
import json
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><rect width="40" height="30" fill="#c33"/></svg>'


async def main() -> None:
    """argv: the server's command line. Every answer has been validated by this client's own models."""
    env = json.loads(sys.stdin.readline())
    server = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:], env=env)
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        assert (await session.list_tools()).tools
        picture = await session.call_tool("generate_image", {"prompt": SVG})
        made = json.loads(picture.content[0].text)
        asset = made["assets"][0]
        await session.call_tool("list_models", {})
        await session.call_tool("generate_audio", {"input": "Hello.", "format": "wav", "preview": "full"})
        assert (await session.list_resources()).resources
        assert (await session.read_resource(asset["uri"])).contents
        await session.call_tool("generate_image", {"prompt": "a sheep"})


asyncio.run(main())
