"""The configurations for hosts: they fit the hosts' schemas, hold no secret, and their command starts a server."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from tests.conftest import environment

FOLDER = Path(__file__).resolve().parent.parent / "client-configs"
SCHEMAS = Path(__file__).resolve().parent / "schemas"
HOSTS = {
    "claude-desktop.json": ("claude-desktop", "mcpServers"),
    "claude-code.json": ("claude-code-mcp", "mcpServers"),
    "cursor.json": ("cursor-mcp", "mcpServers"),
    "vscode.json": ("vscode-mcp", "servers"),
    "codex.toml": ("codex-config", "mcp_servers"),
}


def load(name: str) -> dict[str, Any]:
    """A configuration as a host reads it."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    loaded: dict[str, Any] = tomllib.loads(text) if name.endswith(".toml") else json.loads(text)
    return loaded


def test_every_configuration_is_known_here():
    assert {path.name for path in FOLDER.iterdir()} == {*HOSTS, "README.md"}


@pytest.mark.parametrize("name", HOSTS)
def test_it_fits_the_hosts_schema(name: str):
    schema = json.loads((SCHEMAS / f"{HOSTS[name][0]}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(load(name))


@pytest.mark.parametrize("name", HOSTS)
def test_it_holds_no_secret(name: str):
    entry = load(name)[HOSTS[name][1]]["kheish"]
    assert "env" not in entry
    assert not re.search(r"sk-|Bearer|[A-Za-z0-9+/]{40}", json.dumps(entry))


@pytest.mark.anyio
@pytest.mark.parametrize("name", HOSTS)
async def test_its_command_starts_a_server(name: str, state_root: Path, tmp_path: Path):
    entry = load(name)[HOSTS[name][1]]["kheish"]
    folders = {"${workspaceFolder}": str(tmp_path), "/ABSOLUTE/PATH/TO/A/FOLDER": str(tmp_path), ".": str(tmp_path)}
    program = str(Path(sys.executable).parent / Path(entry["command"]).name)
    arguments = [folders.get(argument, argument) for argument in entry["args"]]
    server = StdioServerParameters(command=program, args=arguments, env=environment(state_root))
    async with Client(server, mode="legacy", cache=None) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert "emit_output" in names
