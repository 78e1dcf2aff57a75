"""The whole way over HTTP: both eras, both transports, beside each other on one port."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import mcp_types as t
import pytest
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from kheish_mcp.transports.limits import Limits
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import wire_faults
from tests.hosts import ERAS, call, refused, result_object
from tests.sites import TRANSPORTS, Site, opened_site

pytestmark = pytest.mark.anyio


@pytest.fixture
def env(state_root: Path, emulator: OpenRouterEmulator) -> dict[str, str]:
    return environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)


@pytest.fixture
async def site(env: dict[str, str], workspace: Path) -> AsyncGenerator[Site]:
    async with opened_site(env, workspace, workspace_root=str(workspace)) as opened:
        yield opened


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ERAS)
async def test_a_picture_is_made_and_read(site: Site, transport: str, mode: str):
    async with site.client(transport, mode) as client:
        result = await client.call_tool("generate_image", {"prompt": "a lighthouse"})
        made = result_object(result)
        assert [block.type for block in result.content] == ["text", "image", "resource_link"]
        read = await client.read_resource(made["assets"][0]["uri"])
        assert isinstance(read.contents[0], t.BlobResourceContents)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ERAS)
async def test_progress_comes_while_a_call_runs(
    site: Site, emulator: OpenRouterEmulator, monkeypatch: pytest.MonkeyPatch, transport: str, mode: str
):
    monkeypatch.setattr("kheish_mcp.tools.running.REPORT_EVERY_S", 0.02)
    emulator.fail_next(wire_faults.hang(), path="/images")
    heard: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message or "")
        emulator.release()

    async with site.client(transport, mode) as client:
        with anyio.fail_after(30):
            await client.call_tool("generate_image", {"prompt": "a lighthouse"}, progress_callback=hear)
    assert heard


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ERAS)
async def test_refusals_come_as_over_stdio(site: Site, transport: str, mode: str):
    async with site.client(transport, mode) as client:
        with pytest.raises(MCPError) as unknown:
            await client.call_tool("draw_me_a_sheep", {})
        assert unknown.value.error.code == t.INVALID_PARAMS
        assert (await refused(client, "generate_image", prompt=""))["code"] == "invalid_argument"


class Ears:
    """A client's notifications, as they come."""

    def __init__(self) -> None:
        self.heard: dict[str, anyio.Event] = {}

    async def __call__(self, message: Any) -> None:
        self.heard.setdefault(getattr(message, "method", ""), anyio.Event()).set()

    async def until(self, method: str, tell: Any) -> None:
        """Tells until it is heard: a client opens its stream when it pleases."""
        told = self.heard.setdefault(method, anyio.Event())
        with anyio.fail_after(30):
            while not told.is_set():
                await tell()
                with anyio.move_on_after(0.02):
                    await told.wait()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_changes_reach_the_clients_of_the_handshake_era(site: Site, transport: str):
    ears, listeners = Ears(), site.daemon.listeners
    async with site.client(transport, "legacy", message_handler=ears) as client:
        await ears.until("notifications/tools/list_changed", listeners.tools_changed)
        await ears.until("notifications/resources/list_changed", listeners.resources_changed)
        with pytest.warns(MCPDeprecationWarning):
            await client.subscribe_resource("kheish://runtime")
        await listeners.resource_updated("kheish://costs")
        await ears.until("notifications/resources/updated", lambda: listeners.resource_updated("kheish://runtime"))
    with anyio.fail_after(30):
        while listeners.audience:
            await listeners.tools_changed()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_changes_reach_the_listeners_of_the_era_after_it(site: Site, transport: str):
    listeners = site.daemon.listeners
    async with (
        site.client(transport) as client,
        client.listen(
            tools_list_changed=True, resources_list_changed=True, resource_subscriptions=["kheish://runtime"]
        ) as changes,
    ):
        await listeners.tools_changed()
        await listeners.resource_updated("kheish://costs")
        await listeners.resource_updated("kheish://runtime")
        await listeners.resources_changed()
        with anyio.fail_after(30):
            assert [type(await anext(changes)).__name__ for _ in range(3)] == [
                "ToolsListChanged",
                "ResourceUpdated",
                "ResourcesListChanged",
            ]


async def test_an_asset_of_another_client_is_heard_of(site: Site):
    async with (
        site.client("sse") as one,
        site.client(mode="legacy") as other,
        one.listen(resources_list_changed=True) as changes,
    ):
        await call(other, "store_asset", source="data:text/plain,hello")
        with anyio.fail_after(30):
            await anext(changes)


async def test_one_listener_that_does_not_read_keeps_nobody_from_hearing(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kheish_mcp.mcp_server.listeners.PATIENCE_S", 0.1)
    listeners = site.daemon.listeners
    reader, writer = await site.connection()
    writer.write(b"GET /sse HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    path = (await reader.readuntil(b"session_id=") + await reader.readexactly(32)).split(b"data: ")[-1].decode()
    writer.transport.pause_reading()
    async with site.http() as http:
        initialize = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "deaf", "version": "1"},
        }
        sent = await http.post(path, json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize})
        assert sent.status_code == 202
    ears, uri = Ears(), "kheish://" + "x" * 1_000_000
    with anyio.fail_after(30):
        while not listeners.audience:
            await anyio.lowlevel.checkpoint()
    [deaf] = listeners._legacy.values()
    deaf.uris.add(uri)
    async with site.client("sse", "legacy", message_handler=ears):
        with anyio.fail_after(30):
            while listeners.audience < 2:
                await anyio.lowlevel.checkpoint()
            while listeners.audience == 2:
                await listeners.resource_updated(uri)
        await ears.until("notifications/tools/list_changed", listeners.tools_changed)
    writer.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_session_belongs_to_the_token_that_opened_it(site: Site, transport: str):
    _, mine = await site.tokens.create("mine", "admin")
    _, yours = await site.tokens.create("yours", "admin")
    reader, writer = await site.connection()
    if transport == "sse":
        writer.write(f"GET /sse HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {mine.reveal()}\r\n\r\n".encode())
        await reader.readuntil(b"session_id=")
        path, headers = f"/messages/?session_id={(await reader.readexactly(32)).decode()}", {}
    else:
        path, headers = "/mcp", await opened_session(site, mine.reveal())
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    async with site.http(mine.reveal()) as http:
        assert (await http.post(path, json=ping, headers=headers)).status_code < 300
    async with site.http(yours.reveal()) as http:
        assert (await http.post(path, json=ping, headers=headers)).status_code == 404
    async with site.http() as http:
        assert (await http.post(path, json=ping, headers=headers)).status_code == 401
    writer.close()


async def opened_session(site: Site, token: str | None = None) -> dict[str, str]:
    """The headers of a session of the handshake era."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    headers = {"Accept": "application/json, text/event-stream"}
    async with site.http(token) as http:
        asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        answer = await http.post("/mcp", json=asked, headers=headers)
    return {**headers, "Mcp-Session-Id": answer.headers["mcp-session-id"], "Mcp-Protocol-Version": "2025-11-25"}


async def test_who_is_not_let_in_is_told_how(site: Site):
    await site.tokens.create("mine", "admin")
    async with site.http() as http:
        for path in ("/mcp", "/sse", "/messages/"):
            answer = await http.request("GET" if path == "/sse" else "POST", path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            assert answer.json()["error"]["code"] == "unauthenticated"
        assert (await http.get("/.well-known/oauth-authorization-server")).status_code == 404
        assert (await http.get("/healthz")).status_code == 200


async def test_sessions_and_streams_have_a_ceiling(env: dict[str, str], workspace: Path):
    async with opened_site(env, workspace, limits=Limits(sessions=1, streams=1)) as site:
        await opened_session(site)
        with pytest.raises(KeyError):
            await opened_session(site)
        async with site.client("sse"), site.http() as http:
            full = await http.get("/sse")
            assert full.status_code == 503
            assert full.json()["error"]["code"] == "unavailable"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ERAS)
async def test_a_call_that_runs_when_the_daemon_stops_becomes_a_job(
    env: dict[str, str], workspace: Path, emulator: OpenRouterEmulator, transport: str, mode: str
):
    emulator.fail_next(wire_faults.hang(), path="/images")
    async with opened_site(env, workspace, limits=Limits(grace_s=0.1)) as site:
        async with site.client(transport, mode) as client, anyio.create_task_group() as group:

            async def stop() -> None:
                await anyio.to_thread.run_sync(emulator.wait_for, lambda: len(emulator.requests) > 0)
                site.stop.set()

            await client.list_tools()  # else the client asks for the schema once it has the result
            group.start_soon(stop)
            pending = await call(client, "generate_image", prompt="a lighthouse")
            assert pending["status"] == "working"
        assert not site.stopped.is_set()
        emulator.release()
        with anyio.fail_after(30):
            await site.stopped.wait()
    async with opened_site(env, workspace) as site, site.client(transport, mode) as client:
        done = await call(client, "get_job", job_id=pending["job_id"])
        assert done["status"] == "completed"
        assert done["result"]["assets"]


async def test_an_idle_daemon_with_open_streams_stops_at_once(env: dict[str, str], workspace: Path):
    async with opened_site(env, workspace) as site, anyio.create_task_group() as group:
        async with (
            site.client("sse", "legacy"),
            site.client("streamable", "legacy"),
            site.client("sse") as modern,
            modern.listen(tools_list_changed=True) as one,
            site.client() as newest,
            newest.listen(tools_list_changed=True) as two,
        ):
            site.stop.set()
            with anyio.fail_after(30):
                await site.stopped.wait()
            # The graceful end of a subscription, not a torn stream.
            assert [event async for event in one] == [event async for event in two] == []
        group.cancel_scope.cancel()
