"""Every client, over every transport, in every era that it speaks: lists, calls, reads, stops, and hears of changes."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from kheish_mcp.media import Media
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import wire_faults
from tests.hosts import daemon_of
from tests.samples import wav
from tests.sites import Site, opened_site

from .workshop import Workshop

pytestmark = pytest.mark.anyio

PROBES = Path(__file__).with_name("probes")
LATEST = {"2026-07-28": "2026-07-28", "legacy": "2025-11-25"}
CLIENTS = {"python": ("2026-07-28", "legacy"), "client 2": ("2026-07-28", "legacy"), "sdk 1": ("legacy",)}
TRANSPORTS = ("stdio", "sse", "streamable")
MATRIX = [(client, era, transport) for client, eras in CLIENTS.items() for era in eras for transport in TRANSPORTS]
ROUTES = """version = 1
[routes.openrouter]
driver = "openrouter"
default_model = "openai/gpt-5.4-mini"
api_key_env = "OPENROUTER_API_KEY"
base_url = "{}"
"""
LARGE, SMALL = (wav(bytes(size)) for size in (10_000_000, 700_000))
# What a client takes by default: TypeScript's 10 MiB over stdio, and so its probe asks for more; Python's SSE client (mcp 2.3)
# 1 MiB in one event, and it cannot be asked for more.
BUFFER = 64 << 20
DEADLINE_S = 60


@dataclass(frozen=True, slots=True)
class Place:
    """A state root with two sounds in it, the routes file of its daemons, and what they are started with."""

    sounds: dict[str, bytes]
    routes: Path
    env: dict[str, str]
    workspace: Path


@pytest.fixture
async def place(state_root: Path, workspace: Path, emulator: OpenRouterEmulator) -> Place:
    routes = workspace / "routes.toml"
    routes.write_text(ROUTES.format(emulator.base_url))
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, KHEISH_ROUTES_FILE=str(routes))
    async with daemon_of(env) as daemon:
        keep = daemon.parts.assets.keep
        sounds = {(await keep(Media(sound, "audio/wav"), owner="local")).uri: sound for sound in (LARGE, SMALL)}
    return Place(sounds, routes, env, workspace)


@pytest.mark.parametrize(("client", "era", "transport"), MATRIX)
async def test_a_client_lists_calls_reads_stops_and_hears(
    request: pytest.FixtureRequest,
    place: Place,
    emulator: OpenRouterEmulator,
    scores: list[str],
    client: str,
    era: str,
    transport: str,
):
    uri, sound = list(place.sounds.items())[(client, transport) == ("python", "sse")]
    command = probe_of(client, request, place.workspace)
    emulator.fail_next(wire_faults.hang(), path="/images")
    async with reached(place, transport) as site:
        seen = await probed(command, task_of(place, uri, site, client, era, transport), emulator)
        # The newest era's way to stop over HTTP is to leave; who leaves loses nothing that is paid.
        stops = (era, transport) != ("2026-07-28", "streamable")
        assert emulator.requests[0].disconnected is stops
        emulator.release()
    assert seen["revision"] in (LATEST[era], None)
    assert {"generate_image", "generate_audio", "ask_model"} <= set(seen["tools"])
    assert [uri, len(sound)] in seen["resources"]
    assert seen["stopped"] == "it was dropped"
    assert seen["picture"] == ["text", "image", "resource_link"]
    assert seen["image"] == ["image/png", "PNG"]
    assert seen["read"] == [len(sound), hashlib.sha256(sound).hexdigest()]
    assert set(seen["tools"]) - set(seen["changed"]) == {"generate_image"}
    scores.append(
        f"interop: {client}, {era}, {transport}: lists, stops, calls, reads {len(sound):,} bytes, hears of changes"
    )


@pytest.mark.parametrize("client", ["client 2", "sdk 1"])
async def test_a_host_that_takes_no_more_keeps_its_connection(
    request: pytest.FixtureRequest, place: Place, emulator: OpenRouterEmulator, client: str
):
    """With its default buffer it would lose the server by one read; see kheish_mcp/profiles.py."""
    uri, *_ = place.sounds
    task = {**task_of(place, uri, None, client, "legacy", "stdio"), "name": "opencode", "buffer": None}
    emulator.fail_next(wire_faults.hang(), path="/images")
    seen = await probed(probe_of(client, request, place.workspace), task, emulator)
    path = Path(seen["read"].rsplit(" at ")[-1].rstrip("."))
    assert path.read_bytes() == LARGE
    assert set(seen["tools"]) - set(seen["changed"]) == {"generate_image"}


def task_of(place: Place, uri: str, site: Site | None, client: str, era: str, transport: str) -> dict[str, Any]:
    """What a probe is asked to do."""
    return {
        "client": client,
        "name": "probe",
        "era": era,
        "transport": transport,
        "command": [sys.executable, "-m", "kheish_mcp", "serve", "--transport", "stdio"],
        "env": place.env,
        "base": site.base if site else None,
        "buffer": BUFFER,
        "uri": uri,
        "routes": str(place.routes),
        "change": place.routes.read_text() + "image_generation = false\n",
    }


def probe_of(client: str, request: pytest.FixtureRequest, folder: Path) -> list[str]:
    """The command of a client's probe."""
    if client == "python":
        return [sys.executable, str(PROBES / "python.py")]
    workshop: Workshop = request.getfixturevalue("workshop")
    (folder / "node_modules").symlink_to(workshop.modules)
    return [str(workshop.node), shutil.copy(PROBES / "typescript.mjs", folder)]


@asynccontextmanager
async def reached(place: Place, transport: str) -> AsyncGenerator[Site | None]:
    """A site, for the transports that need one."""
    if transport == "stdio":
        yield None
        return
    async with opened_site(place.env, place.workspace) as site:
        yield site


async def probed(command: list[str], task: dict[str, Any], emulator: OpenRouterEmulator) -> dict[str, Any]:
    """What a probe saw; it is told to stop its first call once the provider has it."""
    with anyio.fail_after(DEADLINE_S):
        async with await anyio.open_process(command, env=task["env"]) as probe:
            assert probe.stdin is not None
            assert probe.stdout is not None
            lines = BufferedByteReceiveStream(probe.stdout)
            await probe.stdin.send(json.dumps(task).encode() + b"\n")
            assert await line_of(lines, probe) == {"asks": "stop"}
            await anyio.to_thread.run_sync(emulator.wait_for, lambda: len(emulator.requests) > 0)
            await probe.stdin.send(b"stop\n")
            seen: dict[str, Any] = (await line_of(lines, probe))["seen"]
            return seen


async def line_of(lines: BufferedByteReceiveStream, probe: anyio.abc.Process) -> dict[str, Any]:
    """The next that a probe says, or the end of it with what it complained of."""
    try:
        told: dict[str, Any] = json.loads(await lines.receive_until(b"\n", 1 << 20))
    except anyio.IncompleteRead:
        assert probe.stderr is not None
        complaint = b"".join([piece async for piece in probe.stderr])
        pytest.fail(complaint.decode()[-4000:])
    return told
