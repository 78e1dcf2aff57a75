"""Ours beside the SDK in a stock uvicorn, both in one run: `python -m tests.benchmarks.http`.

Slow sockets, a crowd of idle streams, an upload that is far too large, and 10 MB by URL and as a resource. Times are
medians (and minima) in milliseconds, memory is the server's resident set in MiB.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp.shared.exceptions import MCPError

from kheish_mcp.stores.database import Database
from kheish_mcp.stores.tokens import TokenStore
from tests.sites import connected

BLOB_BYTES = 10_000_000
SLOW = 200
IDLE = 2000
PRINCIPALS = 20
ROUNDS = 15
GIVE_UP_AFTER = 200 << 20
PATIENCE_S = 8.0

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port and process, the tokens that it takes, and where its 10 MB are."""

    name: str
    port: int
    pid: int
    tokens: tuple[str, ...]
    by_url: str
    resource: str

    @property
    def base(self) -> str:
        """Its URL without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def resident(self) -> float:
        """Its memory in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def headers(self, number: int) -> dict[str, str]:
        """What the client of that number says of itself."""
        return {"Authorization": f"Bearer {self.tokens[number % len(self.tokens)]}"} if self.tokens else {}

    def request(self, method: str, path: str, number: int = 0, more: str = "") -> bytes:
        """The head of a request."""
        own = "".join(f"{name}: {value}\r\n" for name, value in self.headers(number).items())
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{own}{more}\r\n".encode()

    async def open(self, said: bytes = b"") -> Stream:
        """A connection on which this was said."""
        stream = await asyncio.open_connection("127.0.0.1", self.port)
        stream[1].write(said)
        return stream


@contextmanager
def started(command: list[str], **more: Any) -> Generator[subprocess.Popen[str]]:
    """A child for as long as the block runs."""
    with subprocess.Popen(command, **more) as process:
        try:
            yield process
        finally:
            process.terminate()


@asynccontextmanager
async def ours(root: Path) -> AsyncGenerator[Server]:
    """The product, with a token for each principal and the blob as the first one's asset."""
    async with Database.open(root / "state") as database:
        store = TokenStore(database)
        tokens = tuple([(await store.create(f"p{n}", "generate"))[1].reveal() for n in range(PRINCIPALS)])
    command = [sys.executable, "-m", "kheish_mcp", "serve", "--bind", "127.0.0.1:0"]
    env = {"PATH": os.environ["PATH"], "KHEISH_STATE_ROOT": str(root / "state")}
    with started(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port = int(re.search(r":(\d+)/mcp", process.stderr.readline())[1])  # type: ignore[index]
        headers = {"Authorization": f"Bearer {tokens[0]}"}
        async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http:
            text = os.urandom(BLOB_BYTES // 2).hex().encode()
            kept = (await http.post(f"http://127.0.0.1:{port}/assets", content=text)).json()
        yield Server("ours", port, process.pid, tokens, f"/assets/{kept['asset_id']}", kept["uri"])


@asynccontextmanager
async def bare() -> AsyncGenerator[Server]:
    """The floor."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "tests.benchmarks.bare_http", str(port), str(BLOB_BYTES)]
    with started(command) as process:
        async with httpx2.AsyncClient(trust_env=False) as http:
            while True:
                try:
                    await http.get(f"http://127.0.0.1:{port}/healthz")
                    break
                except httpx2.ConnectError:
                    await anyio.sleep(0.1)
        yield Server("bare", port, process.pid, (), "/blob", "test://blob")


async def timed(work: Callable[[], Awaitable[Any]], rounds: int = ROUNDS) -> str:
    """The median and the minimum of some rounds."""
    await work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        await work()
        times.append((time.perf_counter() - started) * 1000)
    return f"{statistics.median(times):8.2f} ms (min {min(times):7.2f})"


def tell(server: Server, what: str, figure: str) -> None:
    """One row."""
    print(f"{server.name:<5} {what:<52} {figure}", flush=True)


async def slow_sockets(server: Server) -> None:
    """Half heads: how many of them are still held after a while, and how others fare meanwhile."""
    streams = [await server.open(b"POST /mcp HTTP/1.1\r\nX-Slow: ") for _ in range(SLOW)]
    async with httpx2.AsyncClient(base_url=server.base, trust_env=False) as http:
        tell(server, f"/healthz beside {SLOW} half heads", await timed(lambda: http.get("/healthz")))
    held = 0

    async def see(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal held
        with anyio.move_on_after(PATIENCE_S) as waiting:
            await reader.read()
        held += waiting.cancelled_caught
        writer.close()

    async with anyio.create_task_group() as group:
        for stream in streams:
            group.start_soon(see, *stream)
    tell(server, f"of {SLOW} half heads, held after {PATIENCE_S:.0f} s", f"{held:8d}")


async def idle_crowd(server: Server) -> None:
    """Many streams that only stay open: how long that takes, what each costs, and how a call fares beside them."""
    before, started = server.resident, time.perf_counter()
    streams: list[Stream] = []
    for number in range(IDLE):
        stream = await server.open(server.request("GET", "/sse", number))
        await stream[0].readuntil(b"session_id=")
        streams.append(stream)
    took = time.perf_counter() - started
    tell(server, f"{IDLE} idle SSE clients opened", f"{took:8.2f} s")
    tell(server, "memory for each of them", f"{(server.resident - before) * 1024 / IDLE:8.1f} KiB")
    async with connected(
        server.base, "streamable", "2026-07-28", server.tokens[0] if server.tokens else None
    ) as client:
        tell(server, f"tools/list beside {IDLE} idle streams", await timed(client.list_tools))
    for _, writer in streams:
        writer.close()


async def large_upload(server: Server, head: str, what: str, piece: bytes) -> None:
    """Sends without end: how much goes out before the server has had enough, and what it holds of it."""
    before, peak, sent = server.resident, 0.0, 0
    reader, writer = await server.open(server.request("POST", "/assets", 0, head))
    answer = asyncio.ensure_future(reader.readuntil(b"\r\n"))
    while not answer.done() and sent < GIVE_UP_AFTER:
        try:
            writer.write(piece)
            await writer.drain()
        except ConnectionError:
            break
        sent += len(piece)
        peak = max(peak, server.resident)
    verdict = "no answer" if not answer.done() or answer.exception() else answer.result().decode().strip()
    answer.cancel()
    writer.close()
    tell(server, what, f"{sent / 2**20:8.1f} MiB sent, +{max(0.0, peak - before):5.1f} MiB: {verdict}")


async def ten_megabytes(server: Server) -> None:
    """The same bytes by URL and through MCP."""
    token = server.tokens[0] if server.tokens else None
    async with httpx2.AsyncClient(base_url=server.base, headers=server.headers(0), trust_env=False, timeout=60) as http:
        tell(server, "10 MB by URL", await timed(lambda: http.get(server.by_url)))
        part = {"Range": "bytes=5000000-5065535"}
        tell(server, "64 KiB of 10 MB by URL", await timed(lambda: http.get(server.by_url, headers=part)))
    for mode in ("2026-07-28", "legacy"):
        what = f"10 MB by resources/read, {mode}"
        try:
            async with connected(server.base, "streamable", mode, token) as client:
                tell(server, what, await timed(lambda: client.read_resource(server.resource)))
        except* MCPError as refused:
            tell(server, what, f"   {refused.exceptions[0]!r}"[:90])
    tell(server, "memory after that", f"{server.resident:8.1f} MiB")


async def main() -> None:
    """Prints every row of ours and of the floor."""
    with tempfile.TemporaryDirectory() as folder:
        async with ours(Path(folder)) as mine, bare() as floor:
            for server in (mine, floor):
                tell(server, "memory at rest", f"{server.resident:8.1f} MiB")
                await idle_crowd(server)
                await ten_megabytes(server)
                await large_upload(
                    server, "Content-Length: 5000000000\r\n", "an upload of 5 GB that says so", bytes(1 << 20)
                )
                chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
                await large_upload(server, "Transfer-Encoding: chunked\r\n", "an upload of 5 GB that does not", chunk)
                await slow_sockets(server)


if __name__ == "__main__":
    anyio.run(main)
