"""Bodies that are no JSON-RPC message: refused by the code that JSON-RPC has for it, in both eras, and never quoted."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import environment
from tests.sites import Site, opened_site

pytestmark = pytest.mark.anyio

HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
ERAS = {"legacy": HEADERS, "2026-07-28": {**HEADERS, "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "ping"}}
SECRET = "what a caller wrote"


@pytest.fixture
async def site(state_root: Path, workspace: Path) -> AsyncGenerator[Site]:
    async with opened_site(environment(state_root), workspace) as opened:
        yield opened


async def error_of(site: Site, era: str, body: bytes) -> dict[str, Any]:
    """The answer to a body, which is a refusal."""
    async with site.http() as http:
        answer = await http.post("/mcp", headers=ERAS[era], content=body)
    assert answer.status_code == 400
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert SECRET not in answer.text
    told: dict[str, Any] = answer.json()
    assert told["id"] is None
    return told["error"]


NO_MESSAGES = (
    {"jsonrpc": "2.0", "id": 1, "method": 5, "params": {"prompt": SECRET}},
    {"jsonrpc": "1.0", "id": 1, "method": "ping"},
    [],
    SECRET,
    7,
    None,
)


@pytest.mark.parametrize("era", ERAS)
async def test_what_is_no_message_is_an_invalid_request(site: Site, era: str):
    for body in NO_MESSAGES:
        assert (await error_of(site, era, json.dumps(body).encode()))["code"] == -32600, body
    assert (await error_of(site, era, b'{"jsonrpc": "2.0"'))["code"] == -32700


async def test_wrong_parameters_of_a_request_keep_their_own_code(site: Site):
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": 5}}
    headers = {**HEADERS, "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "x"}
    async with site.http() as http:
        answer = (await http.post("/mcp", json=body, headers=headers)).json()
    assert (answer["id"], answer["error"]["code"]) == (7, -32602)
