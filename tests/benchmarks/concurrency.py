"""Paid calls side by side, ours beside a bare server in one run: `python -m tests.benchmarks.concurrency`.

Both are children over stdio, and ask the same stand-in, which takes a second for each picture and runs in a process of
its own. Measured: one call, four, a hundred at once (64 of which may be under way), the pings of a client meanwhile, and
how much memory the server came to use at most, also for one large picture. Nothing is asserted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from tests.conftest import CANARY, environment

SECONDS: Final = 1.0
AT_ONCE: Final = 100
PING_EVERY_S: Final = 0.02
SMALL, LARGE = 200_000, 12_000_000
ROUTES: Final = """
version = 1
[routes.openrouter]
driver = "openrouter"
default_model = "openai/gpt-5.4-mini"
api_key_env = "OPENROUTER_API_KEY"
base_url = "{url}"
[routes.openrouter.limits]
max_concurrency = 64
"""


@contextmanager
def upstream() -> Generator[str]:
    """The stand-in's address."""
    command = [sys.executable, "-m", "tests.benchmarks.upstream", str(SECONDS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


async def draw(client: Client, number: int, size: int = SMALL) -> float:
    """Seconds that a picture takes, of which no other call has the words."""
    started = time.perf_counter()
    arguments = {"prompt": f"{size} pier {number}", "size": "256x256", "model": "openai/gpt-image-2"}
    result = await client.call_tool("generate_image", {**arguments, "preview": "none"})
    assert not result.is_error, result.content
    return time.perf_counter() - started


async def drawn(client: Client, first: int, count: int) -> tuple[float, list[float]]:
    """Seconds that so many take at once, and those that the pings meanwhile take."""
    pings: list[float] = []

    async def ping() -> None:
        while True:
            started = time.perf_counter()
            await client.send_ping()
            pings.append(time.perf_counter() - started)
            await anyio.sleep(PING_EVERY_S)

    started = time.perf_counter()
    async with anyio.create_task_group() as group:
        group.start_soon(ping)
        async with anyio.create_task_group() as calls:
            for number in range(count):
                calls.start_soon(draw, client, first + number)
        took = time.perf_counter() - started
        group.cancel_scope.cancel()
    return took, pings


def server_process(command: str) -> Path:
    """The /proc folder of the one child with such a command line."""
    for line in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for pid in line.read_text().split():
            if command in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
                return Path("/proc", pid)
    raise LookupError(command)


def megabytes(process: Path, name: str) -> float:
    """A figure of a process' memory: VmRSS now, VmHWM at most."""
    [line] = [line for line in (process / "status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1024


async def measure(name: str, server: StdioServerParameters, command: str) -> None:
    """Prints the figures of one server."""
    async with Client(server, mode="legacy", cache=None) as client:
        process = server_process(command)
        await draw(client, 0)
        idle = megabytes(process, "VmRSS")
        one, _ = await drawn(client, 1, 1)
        four, _ = await drawn(client, 2, 4)
        many, pings = await drawn(client, 10, AT_ONCE)
        held = megabytes(process, "VmHWM")
    ordered = sorted(pings)
    print(f"{name:<6} one call {one:6.2f} s   four at once {four:6.2f} s   {AT_ONCE} at once {many:6.2f} s")
    print(
        f"{'':<6} {len(pings)} pings meanwhile: p50 {1000 * statistics.median(ordered):.1f} ms,"
        f" p99 {1000 * ordered[int(len(ordered) * 0.99)]:.1f} ms, at most {1000 * ordered[-1]:.1f} ms"
    )
    print(
        f"{'':<6} memory: {idle:.0f} MB before, {held:.0f} MB at most,"
        f" with up to {64 * SMALL / 1e6:.0f} MB of pictures under way"
    )


async def measure_large(name: str, server: StdioServerParameters, command: str) -> None:
    """Prints what one large picture takes of memory, in a fresh server."""
    async with Client(server, mode="legacy", cache=None) as client:
        process = server_process(command)
        await draw(client, 0)
        idle = megabytes(process, "VmRSS")
        took = await draw(client, 1, LARGE)
        held = megabytes(process, "VmHWM")
    times = (held - idle) * 1024 * 1024 / LARGE
    print(
        f"{name:<6} a picture of {LARGE / 1e6:.0f} MB: {took:.2f} s, {held - idle:.0f} MB more, {times:.1f} times its size"
    )


async def main() -> None:
    """Prints the table."""
    warnings.filterwarnings("ignore", message="ping is removed")  # the era that is spoken here has it
    with tempfile.TemporaryDirectory() as folder, upstream() as url:
        root = Path(folder)
        (root / "routes.toml").write_text(ROUTES.format(url=url))
        rows: list[tuple[str, Any, str]] = []
        for run in ("many", "large"):
            env = environment(root / run, OPENROUTER_API_KEY=CANARY, KHEISH_ROUTES_FILE=str(root / "routes.toml"))
            ours = StdioServerParameters(
                command=sys.executable, args=["-m", "kheish_mcp", "serve", "--transport", "stdio"], env=env
            )
            rows.append(("ours", ours, "kheish_mcp serve"))
        bare = StdioServerParameters(
            command=sys.executable,
            args=["-m", "tests.benchmarks.bare_painter", url, CANARY],
            env={"PATH": os.environ["PATH"]},
        )
        floor = ("bare", bare, "bare_painter")
        await measure(*rows[0])
        await measure(*floor)
        await measure_large(*rows[1])
        await measure_large(*floor)


if __name__ == "__main__":
    anyio.run(main)
