"""Over HTTP, where clients come and go: who leaves loses nothing, who says stop stops the provider."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as t
import pytest

from kheish_mcp.mcp_server.tasks import EXTENSION
from tests.conftest import CANARY, environment
from tests.daemons import SOON, seen, states
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults
from tests.hosts import ERAS, call
from tests.sites import Site, opened_site

pytestmark = pytest.mark.anyio
PIER: dict[str, Any] = {"prompt": "a pier at dusk"}
MODERN = "2026-07-28"


@pytest.fixture
async def site(state_root: Path, tmp_path: Path, emulator: OpenRouterEmulator) -> AsyncGenerator[Site]:
    """A site whose route openrouter is the stand-in."""
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
    async with opened_site(env, tmp_path) as opened:
        yield opened


class Bare:
    """A client that posts frames and closes its connection whenever it likes."""

    def __init__(self, http: httpx2.AsyncClient, mode: str) -> None:
        self._http = http
        self._modern = mode == MODERN
        self._session: dict[str, str] = {}

    async def shake_hands(self) -> None:
        """The handshake of the eras that had one."""
        if not self._modern:
            who = {"name": "bare", "version": "1"}
            hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": who}
            answer = await self.post("initialize", hello, number=0)
            self._session = {"Mcp-Session-Id": answer.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
            await self.post("notifications/initialized", {})

    async def post(self, method: str, params: dict[str, Any], number: int | None = None) -> httpx2.Response:
        """One frame, and the answer's whole body."""
        headers = {"Accept": "application/json, text/event-stream", **self._session}
        if self._modern:
            name = params.get("name", params.get("taskId", ""))
            headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, "Mcp-Name": name}
            meta = {
                t.PROTOCOL_VERSION_META_KEY: MODERN,
                t.CLIENT_CAPABILITIES_META_KEY: {},
                t.CLIENT_INFO_META_KEY: {"name": "bare", "version": "1"},
            }
            params = {"_meta": meta, **params}
        frame = {"jsonrpc": "2.0", "method": method, "params": params, **({} if number is None else {"id": number})}
        return await self._http.post("/mcp", json=frame, headers=headers)

    async def draw(self, number: int = 1) -> httpx2.Response:
        """The call of a picture."""
        return await self.post("tools/call", {"name": "generate_image", "arguments": PIER}, number)


@asynccontextmanager
async def bare(site: Site, mode: str) -> AsyncGenerator[Bare]:
    """A bare client of a site."""
    async with site.http() as http:
        client = Bare(http, mode)
        await client.shake_hands()
        yield client


@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_that_closes_its_connection_is_given_the_result_when_it_asks_again(
    mode: str, site: Site, emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.hang())
    async with bare(site, mode) as client, anyio.create_task_group() as group:
        group.start_soon(client.draw)
        await seen(emulator, lambda: any(each.path == "/images" for each in emulator.requests))
        group.cancel_scope.cancel()
    emulator.release()
    with anyio.fail_after(SOON):
        await site.daemon.parts.jobs.idle()
    assert await states(site.daemon) == ["stored"]
    async with bare(site, mode) as client:
        again = await client.draw()
    assert '\\"replayed\\": true' in again.text
    assert len(emulator.ledger) == 1


async def test_a_stop_of_the_handshake_era_stops_the_provider_within_a_second(site: Site, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.hang())
    async with bare(site, "legacy") as client, anyio.create_task_group() as group:
        group.start_soon(client.draw, 7)
        await seen(emulator, lambda: any(each.path == "/images" for each in emulator.requests))
        told = await client.post("notifications/cancelled", {"requestId": 7, "reason": "enough"})
        assert told.status_code == 202
        await seen(emulator, lambda: any(each.disconnected for each in emulator.requests), seconds=1)
    assert await states(site.daemon) == ["unknown"]


async def test_a_client_of_the_old_transport_stops_its_call_too(site: Site, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.hang())
    async with site.client("sse", "legacy") as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "generate_image", PIER)
            await seen(emulator, lambda: any(each.path == "/images" for each in emulator.requests))
            group.cancel_scope.cancel()
        await seen(emulator, lambda: any(each.disconnected for each in emulator.requests), seconds=1)


async def test_tasks_travel_over_http(site: Site, emulator: OpenRouterEmulator):
    async with bare(site, MODERN) as client:
        meta = {
            t.PROTOCOL_VERSION_META_KEY: MODERN,
            t.CLIENT_CAPABILITIES_META_KEY: {"extensions": {EXTENSION: {}}},
            t.CLIENT_INFO_META_KEY: {"name": "bare", "version": "1"},
        }
        drawing = {"name": "generate_image", "arguments": PIER, "_meta": meta}
        created = result_of(await client.post("tools/call", drawing, 1))
        assert created["resultType"] == "task"
        assert await site.daemon.parts.jobs.wait(created["taskId"], SOON)
        task = result_of(await client.post("tasks/get", {"taskId": created["taskId"], "_meta": meta}, 2))
        assert task["status"] == "completed"
        assert task["ttlMs"] is None
        unknown = await client.post("tasks/get", {"taskId": "job-unknown", "_meta": meta}, 3)
        lacking = await client.post("tasks/get", {"taskId": created["taskId"]}, 4)
    assert frame_of(unknown)["error"]["code"] == t.INVALID_PARAMS
    assert frame_of(lacking)["error"]["code"] == t.MISSING_REQUIRED_CLIENT_CAPABILITY


def frame_of(response: httpx2.Response) -> dict[str, Any]:
    """The answer in a response, which comes plain or as the last event of a stream."""
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith(("data: ", "{"))]
    frame: dict[str, Any] = json.loads(lines[-1])
    return frame


def result_of(response: httpx2.Response) -> dict[str, Any]:
    """The result in a response."""
    result: dict[str, Any] = frame_of(response)["result"]
    return result


@pytest.mark.parametrize("mode", ERAS)
async def test_what_was_delivered_over_http_is_paid_anew(mode: str, site: Site, emulator: OpenRouterEmulator):
    async with site.client("streamable", mode) as client:
        made = [await call(client, "generate_image", **PIER) for _ in range(2)]
    assert not any("replayed" in each for each in made)
    assert len(emulator.ledger) == 2
