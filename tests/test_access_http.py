"""Who may, over real HTTP: tokens, scopes at the door, and the way to an issuer's tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from mcp.shared.exceptions import MCPError

from kheish_mcp.cli import run
from kheish_mcp.principals import Scope
from kheish_mcp.transports.oauth import PLACES, ResourceServer
from kheish_mcp.transports.scoped import LARGEST
from tests.conftest import environment
from tests.emulators.issuer import IssuerEmulator, SigningKey
from tests.hosts import ERAS, call, refused
from tests.sites import TRANSPORTS, Site, opened_site

pytestmark = pytest.mark.anyio

MODERN = "2026-07-28"
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
AUDIENCE = "api://kheish"


@pytest.fixture
async def site(state_root: Path) -> AsyncGenerator[Site]:
    """A site with the local route."""
    async with opened_site(environment(state_root), state_root.parent) as opened:
        yield opened


async def token(site: Site, scope: Scope, name: str = "") -> str:
    """A new token."""
    _, secret = await site.tokens.create(name or scope, scope)
    return secret.reveal()


def message(method: str, **params: Any) -> dict[str, Any]:
    """A request as JSON-RPC."""
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


CALL = message("tools/call", name="emit_output", arguments={"content": "Hello."})
READ = message("resources/read", uri="kheish://runtime")


async def post(site: Site, given: str | None, body: Any, **headers: str) -> httpx2.Response:
    """What the site answers to a body."""
    async with site.http(given) as http:
        content = body if isinstance(body, bytes) else json.dumps(body)
        return await http.post("/mcp", content=content, headers={**ACCEPT, **headers})


def told(answer: httpx2.Response, needed: str) -> dict[str, Any]:
    """The error of a refusal for want of a scope, which says in its header what is needed."""
    assert answer.status_code == 403
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith("Bearer ")
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{needed}"' in challenge
    error: dict[str, Any] = answer.json()["error"]
    assert (error["code"], error["data"]["code"], error["data"]["needed_scope"]) == (
        -32602,
        "permission_denied",
        needed,
    )
    return error


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ERAS)
async def test_the_lists_follow_the_token(site: Site, transport: str, mode: str):
    for scope, sees_tools, sees_runtime in (("read", False, False), ("generate", True, False), ("admin", True, True)):
        async with site.client(transport, mode, await token(site, scope)) as client:
            assert bool((await client.list_tools()).tools) is sees_tools
            uris = {str(resource.uri) for resource in (await client.list_resources()).resources}
            assert ("kheish://runtime" in uris) is sees_runtime


@pytest.mark.parametrize(("scope", "body", "needed"), [
    ("read", CALL, "generate"), ("read", READ, "admin"), ("generate", READ, "admin"),
    ("read", message("tasks/get", taskId="task-1"), "generate"),
    ("read", [message("ping"), CALL], "generate"),
])  # fmt: skip
async def test_what_the_scope_does_not_allow_ends_at_the_door(site: Site, scope: Scope, body: Any, needed: str):
    answer = await post(site, await token(site, scope), body)
    told(answer, needed)
    assert answer.json()["id"] == 7


@pytest.mark.parametrize(("scope", "method", "name", "needed"), [
    ("read", "tools/call", "emit_output", "generate"),
    ("generate", "resources/read", "kheish://runtime", "admin"),
])  # fmt: skip
async def test_the_headers_of_the_new_era_are_enough_to_say_no(
    site: Site, scope: Scope, method: str, name: str, needed: str
):
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, "Mcp-Name": name}
    told(await post(site, await token(site, scope), b"not even JSON", **headers), needed)


async def test_headers_that_lie_open_nothing(site: Site):
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"}
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = message("tools/call", name="emit_output", arguments={"content": "Hello."}, _meta=meta)
    answer = await post(site, await token(site, "read"), body, **headers)
    assert answer.status_code == 400
    assert "Hello." not in answer.text


@pytest.mark.parametrize("mode", ERAS)
async def test_an_mcp_client_reads_why_it_was_refused(site: Site, mode: str):
    async with site.client("streamable", mode, await token(site, "read")) as client:
        with pytest.raises(MCPError) as refusal:
            await client.call_tool("emit_output", {"content": "Hello."})
        assert refusal.value.error.data["code"] == "permission_denied"
        assert (await client.list_tools()).tools == []  # and goes on


async def test_what_is_too_large_to_look_at_is_refused_behind_the_door(site: Site):
    async with site.client("streamable", "legacy", await token(site, "read")) as client:
        error = await refused(client, "emit_output", content="x" * (LARGEST + 1))
    assert error["code"] == "permission_denied"
    async with site.client("sse", "legacy", await token(site, "read", "again")) as client:
        assert (await refused(client, "emit_output", content="x"))["code"] == "permission_denied"


@pytest.mark.parametrize("mode", ERAS)
async def test_who_may_is_not_hindered_however_large_the_call(site: Site, mode: str):
    async with site.client("streamable", mode, await token(site, "generate")) as client:
        for size in (10, LARGEST // 20, 90_000):
            assert (await call(client, "emit_output", content="x" * size))["content"] == "x" * size


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"7", b"[7, {}]", b'{"method": 7}', b"\xff"])
async def test_what_is_no_message_is_the_server_s_to_refuse(site: Site, body: bytes):
    answer = await post(site, await token(site, "read"), body)
    assert 400 <= answer.status_code < 500
    assert answer.status_code != 403


async def test_without_a_token_all_but_the_probes_is_shut_once_there_is_one(site: Site):
    await token(site, "read")
    async with site.http() as http:
        for path in ("/mcp", "/sse", "/messages/"):
            answer = await (http.get(path) if path == "/sse" else http.post(path))
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="kheish"')
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get(PLACES[0])).status_code == 404


async def test_a_revoked_token_is_out_at_its_next_request(site: Site):
    given = await token(site, "generate")
    async with site.client("streamable", MODERN, given) as client:
        assert (await client.list_tools()).tools
        await site.tokens.create("other", "read")
        await site.tokens.revoke("generate")
        with pytest.raises(MCPError):
            await client.list_tools()


async def test_what_was_signed_for_a_token_ends_with_it(site: Site):
    given = await token(site, "generate")
    async with site.client(token=given) as client, site.http() as http:
        stored = await call(client, "store_asset", source="data:text/plain,hello")
        assert (await http.get(stored["url"])).text == "hello"
        await site.tokens.create("other", "read")
        await site.tokens.revoke("generate")
        assert (await http.get(stored["url"])).status_code == 401


async def test_the_workspace_is_for_admins(state_root: Path, workspace: Path):
    (workspace / "note.txt").write_text("hello")
    speak = {"input": "Hello.", "save_as": "hello.wav", "format": "wav"}
    async with opened_site(environment(state_root), workspace, workspace_root=str(workspace)) as site:
        async with site.client(token=await token(site, "generate")) as client:
            for name, arguments in (("store_asset", {"source": "note.txt"}), ("generate_audio", speak)):
                error = await refused(client, name, **arguments)
                assert error["code"] == "failed_precondition"
                assert "no workspace that you may" in error["message"]
            assert "curl" in (await refused(client, "store_asset", source="note.txt"))["hint"]
        async with site.client(token=await token(site, "admin")) as client:
            assert (await call(client, "store_asset", source="note.txt"))["byte_length"] == 5
            spoken = await call(client, "generate_audio", **speak)
            assert spoken["assets"][0]["path"].endswith("/hello.wav")
    assert [path.name for path in sorted(workspace.iterdir())] == ["hello.wav", "note.txt"]


@pytest.fixture
def issuer() -> Iterator[IssuerEmulator]:
    """An OAuth issuer."""
    with IssuerEmulator(SigningKey.make("a")) as running:
        yield running


async def test_a_client_finds_its_way_to_the_issuer_and_in(state_root: Path, issuer: IssuerEmulator):
    server = ResourceServer(issuer.issuer, AUDIENCE)
    async with opened_site(environment(state_root), state_root.parent, issuer=server) as site, site.http() as http:
        shut = await http.post("/mcp", json=CALL, headers=ACCEPT)
        assert shut.status_code == 401
        place = shut.headers["www-authenticate"].partition('resource_metadata="')[2].partition('"')[0]
        assert place == f"{site.base}{PLACES[1]}"
        for url in (place, PLACES[0]):
            metadata = (await http.get(url)).json()
            assert (metadata["resource"], metadata["authorization_servers"]) == (f"{site.base}/mcp", [issuer.issuer])
        given = issuer.sign(issuer.claims(AUDIENCE))
        for transport in TRANSPORTS:
            async with site.client(transport, "legacy", given) as client:
                assert (await client.list_tools()).tools
        narrow = await post(site, issuer.sign(issuer.claims(AUDIENCE, scope="read")), CALL)
        told(narrow, "generate")
        assert "resource_metadata=" in narrow.headers["www-authenticate"]
        other = await post(site, issuer.sign(issuer.claims("api://other")), CALL)
        assert (other.status_code, "invalid_token" in other.headers["www-authenticate"]) == (401, True)


async def test_an_issuer_that_is_down_is_no_fault_of_the_token(state_root: Path, issuer: IssuerEmulator):
    issuer.is_down = True
    server = ResourceServer(issuer.issuer, AUDIENCE)
    async with opened_site(environment(state_root), state_root.parent, issuer=server) as site:
        answer = await post(site, issuer.sign(issuer.claims(AUDIENCE)), CALL)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        own = await token(site, "admin")
        async with site.client("streamable", MODERN, own) as client:
            assert (await client.list_tools()).tools


@pytest.mark.parametrize("options", [
    ["--oauth-issuer", "http://issuer.example", "--oauth-audience", AUDIENCE],
    ["--oauth-issuer", "https://issuer.example"],
    ["--oauth-audience", AUDIENCE],
    ["--bind", "0.0.0.0:0"],
    ["--bind", "[::]:0"],
    ["--allowed-host", "media.example"],
])  # fmt: skip
async def test_a_daemon_that_would_let_strangers_in_does_not_start(state_root: Path, options: list[str]):
    command = ["serve", "--bind", "127.0.0.1:0", "--state-root", str(state_root), "--output", "json", *options]
    with anyio.fail_after(30):
        assert await anyio.to_thread.run_sync(run, command) == 2
