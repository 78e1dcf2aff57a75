"""The configurations for hosts are what `clients show` prints; they fit the hosts' schemas and start a server."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from kheish_mcp.cli.clients import snippet
from kheish_mcp.hosts.known import HOSTS, Host, Launch, Remote, entry_of
from tests.configurations import check, command_of, entry_in, read
from tests.conftest import environment

FOLDER = Path(__file__).resolve().parent.parent / "client-configs"
PROGRAM, PLACE = "/ABSOLUTE/PATH/TO/kheish-daemon", "/ABSOLUTE/PATH/TO/A/FOLDER"
ENDINGS = {"json": "json", "jsonc": "json", "toml": "toml", "yaml": "yaml"}
# One of each way to write a command line and to pass variables on; the others differ in names alone.
STARTED = ["claude-desktop", "codex", "cursor", "gemini-cli", "opencode"]


def file_of(host: Host) -> Path:
    """The host's file among the configurations."""
    return FOLDER / f"{host.name}.{ENDINGS[host.format]}"


def expected(host: Host) -> str:
    """What the file holds: an open project as the workspace where the host has a word for it.

    Hosts of a terminal find the daemon on its PATH and work in its folder; the others need absolute paths.
    """
    if host.name == "visual-studio":  # it runs on Windows and the daemon does not
        return snippet(host, entry_of(host, Remote("http://127.0.0.1:4000/mcp"))) + "\n"
    workspace = host.workspace or PLACE
    arguments = ("serve", "--transport", "stdio", "--workspace-root", workspace)
    program = "kheish-daemon" if workspace == "." else PROGRAM
    return snippet(host, entry_of(host, Launch(program, arguments))) + "\n"


def test_there_is_one_for_every_host_and_the_readme_names_each():
    names = {file_of(host).name for host in HOSTS.values()}
    assert {path.name for path in FOLDER.iterdir()} == {*names, "README.md"}
    told = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert not [name for name in names if f"| `{name}` |" not in told]
    assert not [host.title for host in HOSTS.values() if host.title not in told]


@pytest.mark.parametrize("name", HOSTS)
def test_it_is_what_clients_show_prints_with_the_capitals_in_it(name: str):
    assert file_of(HOSTS[name]).read_text(encoding="utf-8") == expected(HOSTS[name])


@pytest.mark.parametrize("name", HOSTS)
def test_it_fits_the_hosts_schema(name: str):
    host = HOSTS[name]
    check(host, read(file_of(host).read_text(encoding="utf-8"), host.format))


@pytest.mark.parametrize("name", HOSTS)
def test_it_holds_no_secret(name: str):
    text = file_of(HOSTS[name]).read_text(encoding="utf-8")
    assert not re.search(r"sk-|Bearer|[A-Za-z0-9+/]{40}", text)
    variables = entry_in(HOSTS[name], read(text, HOSTS[name].format)).get("env", {})
    assert variables == {variable: HOSTS[name].reference % variable for variable in variables}


@pytest.mark.anyio
@pytest.mark.parametrize("name", STARTED)
async def test_its_command_starts_a_server(name: str, state_root: Path, tmp_path: Path):
    """Also where the host found no value for a variable and passes its own reference on."""
    host = HOSTS[name]
    entry = entry_in(host, read(file_of(host).read_text(encoding="utf-8"), host.format))
    command, *arguments = command_of(entry)
    folders = {"${workspaceFolder}": str(tmp_path), PLACE: str(tmp_path), ".": str(tmp_path)}
    program = str(Path(sys.executable).parent / Path(command).name)
    server = StdioServerParameters(
        command=program,
        args=[folders.get(argument, argument) for argument in arguments],
        env={**environment(state_root), **entry.get("env", {})},
    )
    async with Client(server, mode="legacy", cache=None) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert "emit_output" in names
        assert "ask_model" not in names  # a reference is no key
