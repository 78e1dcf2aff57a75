"""Over stdio, where an editor stops a call, or closes in the middle of one and is opened again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as t
import pytest

from tests.conftest import CANARY, environment
from tests.daemons import seen
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults
from tests.hosts import call, stdio_client

pytestmark = pytest.mark.anyio
PIER: dict[str, Any] = {"prompt": "a pier at dusk"}
SERVE = [sys.executable, "-m", "kheish_mcp", "serve", "--transport", "stdio"]


@pytest.fixture
def env(state_root: Path, emulator: OpenRouterEmulator) -> dict[str, str]:
    """A daemon whose built-in route openrouter is the stand-in."""
    return environment(
        state_root,
        OPENROUTER_API_KEY=CANARY,
        OPENROUTER_BASE_URL=emulator.base_url,
        KHEISH_DEFAULT_ROUTE="openrouter",
        KHEISH_OPENROUTER_MODEL_DISCOVERY="disabled",
    )


def drawing() -> bytes:
    """The line in which a client of the newest revision asks for a picture, with nothing before it."""
    meta = {
        t.PROTOCOL_VERSION_META_KEY: "2026-07-28",
        t.CLIENT_CAPABILITIES_META_KEY: {},
        t.CLIENT_INFO_META_KEY: {"name": "bare", "version": "1"},
    }
    params = {"name": "generate_image", "arguments": PIER, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode() + b"\n"


async def test_a_stop_closes_the_provider_s_line_within_a_second(env: dict[str, str], emulator: OpenRouterEmulator):
    emulator.fail_next(faults.hang())
    async with stdio_client(env) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "generate_image", PIER)
            await seen(emulator, lambda: len(emulator.requests) == 1)
            group.cancel_scope.cancel()
        await seen(emulator, lambda: emulator.requests[0].disconnected, seconds=1)
        assert await call(client, "list_models")
    assert emulator.ledger == []


async def test_an_editor_that_closes_in_the_middle_finds_its_picture_when_it_opens_again(
    env: dict[str, str], emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.hang())
    with anyio.fail_after(30):
        async with await anyio.open_process(SERVE, env=env) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            await process.stdin.send(drawing())
            await seen(emulator, lambda: len(emulator.requests) == 1)
            await process.stdin.aclose()
            assert b"finishing 1 paid call" in await process.stderr.receive()
            emulator.release()
            assert await process.wait() == 0
        async with stdio_client(env) as client:
            again = await call(client, "generate_image", **PIER)
    assert again["replayed"] is True
    assert len(emulator.ledger) == 1
