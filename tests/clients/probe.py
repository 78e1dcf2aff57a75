"""Run by an old client's own Python: lists, calls and reads, and prints what came as JSON; knows nothing of kheish_mcp."""

from __future__ import annotations

import asyncio
import base64
import json
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><rect width="40" height="30" fill="#c33"/></svg>'


async def main() -> None:
    """argv: the server's command line. Every answer has been validated by this client's own models."""
    env = json.loads(sys.stdin.readline())
    server = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:], env=env)
    async with stdio_client(server) as (reads, writes), ClientSession(reads, writes) as session:
        hello = await session.initialize()
        tools = (await session.list_tools()).tools
        picture = await session.call_tool("generate_image", {"prompt": SVG})
        asset = json.loads(picture.content[0].text)["assets"][0]
        models = await session.call_tool("list_models", {})
        speech = await session.call_tool("generate_audio", {"input": "Hello.", "format": "wav", "preview": "full"})
        resources = (await session.list_resources()).resources
        read = (await session.read_resource(asset["uri"])).contents[0]
        refused = await session.call_tool("generate_image", {"prompt": "a sheep"})
    seen = {
        "revision": hello.protocolVersion,
        "tools": [tool.name for tool in tools],
        "output_schemas": any(getattr(tool, "outputSchema", None) for tool in tools),
        "picture": [block.type for block in picture.content],
        "speech": [block.type for block in speech.content],
        "structured": getattr(models, "structuredContent", None) is not None,
        "asset": asset["uri"],
        "resources": [str(resource.uri) for resource in resources],
        "read_bytes": len(base64.b64decode(read.blob)),
        "byte_length": asset["byte_length"],
        "refused": [refused.isError, json.loads(refused.content[0].text)["error"]["code"]],
    }
    print(json.dumps(seen))  # noqa: T201 # read by the test


asyncio.run(main())
