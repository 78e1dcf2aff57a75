"""Ours beside a bare low-level server, in one run: `python -m tests.benchmarks.stdio`.

Start to tools/list, a call that does nothing, a 2 MB picture in a result, a resource of 10 MB: the median and the
minimum of each in milliseconds, interleaved, and the ratio of the medians.
"""

from __future__ import annotations

import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

PICTURE_BYTES = 2_000_000
BLOB_BYTES = 10_000_000
ROUNDS = 15

Clock = Callable[[], Awaitable[float]]


def noise_png(size: int) -> bytes:
    """A PNG of about `size` bytes that does not compress."""
    width = 1000
    height = size // (width * 3)
    rows = b"".join(b"\0" + os.urandom(width * 3) for _ in range(height))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds that `work` takes."""
    started = time.perf_counter()
    await work()
    return (time.perf_counter() - started) * 1000


async def start(server: StdioServerParameters) -> float:
    """Milliseconds from the spawn of a server to its tools/list."""
    started = time.perf_counter()
    async with Client(server, mode="legacy", cache=None) as client:
        await client.list_tools()
        return (time.perf_counter() - started) * 1000


def show(what: str, ours: list[float], bare: list[float]) -> None:
    """One row: ours, the floor, the ratio of the medians."""
    mine, floor = statistics.median(ours), statistics.median(bare)
    print(
        f"{what:<28} ours {mine:8.2f} (min {min(ours):8.2f})   bare {floor:8.2f} (min {min(bare):8.2f})"
        f"   ratio {mine / floor:5.2f}"
    )


async def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        root, work = Path(folder) / "state", Path(folder) / "work"
        work.mkdir()
        (work / "big.png").write_bytes(noise_png(PICTURE_BYTES))
        (work / "huge.png").write_bytes(noise_png(BLOB_BYTES))
        kheish = [sys.executable, "-m", "kheish_mcp"]
        env = {"PATH": os.environ["PATH"], "KHEISH_STATE_ROOT": str(root)}
        imported = subprocess.run([*kheish, "assets", "import", str(work / "huge.png"), "--output", "json"],
                                  env=env, capture_output=True, check=True, text=True)  # fmt: skip
        huge = json.loads(imported.stdout)["asset_id"]
        imported = subprocess.run([*kheish, "assets", "import", str(work / "big.png"), "--output", "json"],
                                  env=env, capture_output=True, check=True, text=True)  # fmt: skip
        big = json.loads(imported.stdout)["asset_id"]
        ours = StdioServerParameters(command=kheish[0], args=[*kheish[1:], "serve", "--transport", "stdio"], env=env)
        bare = StdioServerParameters(
            command=sys.executable,
            args=["-m", "tests.benchmarks.bare_server", str(PICTURE_BYTES), str(BLOB_BYTES)],
            env={"PATH": os.environ["PATH"]},
        )
        await _start_rows(ours, bare)
        await _call_rows(ours, bare, big, huge)


async def _start_rows(ours: StdioServerParameters, bare: StdioServerParameters) -> None:
    mine, floor = [], []
    for _ in range(7):
        mine.append(await start(ours))
        floor.append(await start(bare))
    show("start to tools/list, ms", mine, floor)


async def _call_rows(ours: StdioServerParameters, bare: StdioServerParameters, big: str, huge: str) -> None:
    show_full = {"artifact_ids": [big]}
    async with Client(ours, mode="legacy", cache=None) as a, Client(bare, mode="legacy", cache=None) as b:
        rows: list[tuple[str, Callable[[], Awaitable[Any]], Callable[[], Awaitable[Any]]]] = [
            ("a call that does nothing", lambda: a.call_tool("list_models", {}), lambda: b.call_tool("nothing", {})),
            ("a 2 MB picture in a result", lambda: a.call_tool("emit_output", show_full), lambda: b.call_tool("picture", {})),
            ("a resource of 10 MB", lambda: a.read_resource(f"asset://{huge}"), lambda: b.read_resource("test://blob")),
        ]  # fmt: skip
        for what, mine, floor in rows:
            await mine(), await floor()
            pairs = [(await timed(mine), await timed(floor)) for _ in range(ROUNDS)]
            show(what, [pair[0] for pair in pairs], [pair[1] for pair in pairs])


if __name__ == "__main__":
    anyio.run(main)
