"""What each scope sees and may, with real clients of both eras on one daemon."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from kheish_mcp.daemon import Daemon, open_daemon
from kheish_mcp.mcp_server.server import Face, KheishServer
from kheish_mcp.media import Media
from kheish_mcp.principals import SCOPES, Principal, Scope
from kheish_mcp.scopes import scope_for
from kheish_mcp.settings import Settings
from kheish_mcp.tools import TOOLS
from tests.conftest import environment
from tests.hosts import ERAS, refused

pytestmark = pytest.mark.anyio

RUNTIME, COSTS = "kheish://runtime", "kheish://costs"


@pytest.fixture
async def daemon(state_root: Path) -> AsyncGenerator[Daemon]:
    """A daemon with the local route, in this process."""
    settings = Settings.load(environment(state_root), cwd=state_root.parent, transport="stdio")
    async with open_daemon(settings) as running:
        yield running


@asynccontextmanager
async def client_of(daemon: Daemon, scope: Scope, mode: str = ERAS[0], owner: str = "me") -> AsyncGenerator[Client]:
    """A client of somebody with this scope, beside the daemon in one process."""
    who = Principal(owner, at_hand=False, scope=scope)
    face = Face(lambda: daemon.parts, daemon.runtime, daemon.listeners, principal=lambda _: who)
    async with Client(KheishServer(face), mode=mode, cache=None) as client:
        yield client


async def error_of(client: Client, uri: str) -> Any:
    """Why a resource cannot be read."""
    with pytest.raises(MCPError) as refusal:
        await client.read_resource(uri)
    return refusal.value.error


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("scope", SCOPES)
async def test_the_lists_follow_the_scope(daemon: Daemon, scope: Scope, mode: str):
    async with client_of(daemon, scope, mode) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        uris = [str(resource.uri) for resource in (await client.list_resources()).resources]
    assert tools == ([] if scope == "read" else [tool.name for tool in TOOLS if tool.listed_by(daemon.parts.catalog)])
    assert uris == ([RUNTIME, COSTS] if scope == "admin" else [COSTS])


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("name", [tool.name for tool in TOOLS])
async def test_who_may_only_read_is_refused_every_tool_with_the_scope_that_it_needs(
    daemon: Daemon, name: str, mode: str
):
    async with client_of(daemon, "read", mode) as client:
        error = await refused(client, name)
    assert error["code"] == "permission_denied"
    assert error["details"] == {"needed_scope": "generate", "scope": "read"}


async def test_a_name_that_no_tool_has_is_unknown_to_all(daemon: Daemon):
    async with client_of(daemon, "read") as client:
        with pytest.raises(MCPError) as refusal:
            await client.call_tool("paint", {})
    assert refusal.value.error.code == -32602


@pytest.mark.filterwarnings("ignore:resources/subscribe is removed")
@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("scope", ["read", "generate"])
async def test_the_runtime_is_for_admins(daemon: Daemon, scope: Scope, mode: str):
    async with client_of(daemon, scope, mode) as client:
        error = await error_of(client, RUNTIME)
        assert (error.code, error.data["code"], error.data["needed_scope"]) == (-32602, "permission_denied", "admin")
        assert error.data["uri"] == RUNTIME
        if mode == "legacy":
            with pytest.raises(MCPError):
                await client.subscribe_resource(RUNTIME)
    async with client_of(daemon, "admin", mode) as client:
        assert (await client.read_resource(RUNTIME)).contents


async def test_who_may_read_reads_its_assets_and_no_model_names(daemon: Daemon):
    kept = await daemon.parts.assets.keep(Media(b"Hello.", "text/plain"), owner="me")
    async with client_of(daemon, "read") as client:
        assert (await client.read_resource(kept.uri)).contents[0].text == "Hello."
        reference = {"type": "ref/resource", "uri": "asset://{asset_id}"}
        ids = await client.complete(reference, {"name": "asset_id", "value": ""})
        assert ids.completion.values == [kept.asset_id]
        routes = await client.complete(reference, {"name": "provider", "value": ""})
        assert routes.completion.values == []
    async with client_of(daemon, "generate") as client:
        routes = await client.complete(reference, {"name": "provider", "value": ""})
        assert routes.completion.values == ["local"]


@pytest.mark.parametrize(("method", "name", "scope"), [
    ("tools/list", None, "read"),
    ("tools/call", "emit_output", "generate"),
    ("tools/call", RUNTIME, "generate"),
    ("tasks/get", None, "generate"),
    ("tasks/cancel", None, "generate"),
    ("resources/read", COSTS, "read"),
    ("resources/read", RUNTIME, "admin"),
    ("resources/subscribe", RUNTIME, "admin"),
    ("resources/read", ["kheish://runtime"], "read"),
    ("resources/list", None, "read"),
    ("server/discover", None, "read"),
])  # fmt: skip
def test_each_request_needs_its_scope(method: str, name: object, scope: Scope):
    assert scope_for(method, name) == scope
