"""Run as a program: the Python client does what a task says and prints what it saw; knows nothing of kheish_mcp."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

Task = dict[str, Any]


def stdio(task: Task) -> Any:
    command, *arguments = task["command"]
    return StdioServerParameters(command=command, args=arguments, env=task["env"])


TRANSPORTS = {
    "stdio": stdio,
    "sse": lambda task: sse_client(f"{task['base']}/sse"),
    "streamable": lambda task: streamable_http_client(f"{task['base']}/mcp"),
}


class Changes:
    """Word of other tools, by whichever way the era brings it."""

    def __init__(self) -> None:
        self.came = anyio.Event()

    async def hear(self, message: Any) -> None:
        """The handshake era's notifications."""
        if getattr(message, "method", "") == "notifications/tools/list_changed":
            self.came.set()

    @asynccontextmanager
    async def listened_for(self, client: Client, era: str) -> AsyncIterator[None]:
        """The subscription of the era after it."""
        if era == "legacy":
            yield
            return
        async with client.listen(tools_list_changed=True) as changes, anyio.create_task_group() as group:

            async def listen() -> None:
                async for _ in changes:
                    self.came.set()

            group.start_soon(listen)
            yield
            group.cancel_scope.cancel()


def say(**value: Any) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201 # read by the test


async def told() -> str:
    return await anyio.to_thread.run_sync(sys.stdin.readline)


async def stopped(client: Client) -> str:
    """What becomes of a call that is given up once it is under way."""
    outcome = "it was dropped"
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            nonlocal outcome
            await client.call_tool("generate_image", {"prompt": "never mind"})
            outcome = "it was answered"

        group.start_soon(ask)
        say(asks="stop")
        await told()
        group.cancel_scope.cancel()
    return outcome


async def main() -> None:
    """The same steps in the same order as the other probes."""
    task: Task = json.loads(await told())
    changes = Changes()
    wire = TRANSPORTS[task["transport"]](task)
    async with Client(wire, mode=task["era"], cache=None, message_handler=changes.hear) as client:
        seen: dict[str, Any] = {"revision": client.protocol_version}
        async with changes.listened_for(client, task["era"]):
            seen["tools"] = [tool.name for tool in (await client.list_tools()).tools]
            seen["resources"] = [(each.uri, each.size) for each in (await client.list_resources()).resources]
            seen["stopped"] = await stopped(client)
            picture = await client.call_tool("generate_image", {"prompt": "a lighthouse"})
            seen["picture"] = [block.type for block in picture.content]
            image = next(block for block in picture.content if block.type == "image")
            seen["image"] = [image.mime_type, base64.b64decode(image.data)[1:4].decode("latin-1")]
            data = base64.b64decode((await client.read_resource(task["uri"])).contents[0].blob)
            seen["read"] = [len(data), hashlib.sha256(data).hexdigest()]
            await anyio.Path(task["routes"]).write_text(task["change"])
            await changes.came.wait()
            seen["changed"] = [tool.name for tool in (await client.list_tools()).tools]
        say(seen=seen)


anyio.run(main)
