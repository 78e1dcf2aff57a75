"""What the server says of itself: all of it once, and next to nothing with every result."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import mcp_types as t
import pytest

from kheish_mcp import __version__
from kheish_mcp.mcp_server.server import ICON, INSTRUCTIONS, Face, KheishServer, described
from kheish_mcp.tools import TOOLS
from tests.conftest import environment
from tests.hosts import client_of, daemon_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_learns_who_it_talks_to(state_root: Path, mode: str):
    async with daemon_of(environment(state_root)) as daemon, client_of(daemon, mode) as client:
        who = client.server_info
        assert (who.name, who.title, who.version) == ("kheish", "Kheish", __version__)
        assert client.instructions == INSTRUCTIONS
        assert who.description
        assert who.website_url
        assert [icon.mime_type for icon in who.icons or ()] == ["image/svg+xml"]
        listed = await client.list_tools()
        stamp = {t.SERVER_INFO_META_KEY: {"name": "kheish", "version": __version__}}
        assert listed.meta == (None if mode == "legacy" else stamp)


def test_the_icon_is_a_small_drawing():
    assert ElementTree.fromstring(ICON).tag == "{http://www.w3.org/2000/svg}svg"
    assert len(ICON) < 256


async def test_the_schema_that_headers_are_checked_by_is_the_one_that_is_listed(state_root: Path):
    async with daemon_of(environment(state_root)) as daemon:
        server = KheishServer(Face(lambda: daemon.parts, daemon.runtime, daemon.listeners))
        for tool in TOOLS:
            assert server.input_schema(tool.name) == described(tool, "2026-07-28").input_schema
        assert server.input_schema("draw_me_a_sheep") is None
