"""The MCP hosts that are known: where each keeps its servers, in which format, and in which words.

Measured, or read in the hosts' own documentation, in November 2026. The daemon runs on Linux and macOS, and so these
places are given for both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import ConfigError, FailedPrecondition, Json, JsonObject

Format = Literal["json", "jsonc", "toml", "yaml"]

ALIAS: Final = "kheish"
TOKEN: Final = "KHEISH_TOKEN"  # noqa: S105 - the name of a variable
TIMEOUT_S: Final = 600  # a call may wait for 300 s by itself
FORWARDED: Final = ("OPENROUTER_API_KEY", "KHEISH_AUTH_STORE_MASTER_KEY", "KHEISH_AUTH_STORE_MASTER_KEY_FILE")


class Blank(Enum):
    """What the shape of an entry leaves open."""

    COMMAND = auto()
    ARGUMENTS = auto()
    COMMAND_LINE = auto()  # command and arguments in one list
    VARIABLES = auto()  # what is passed on, each as the host's own reference; left out where it is inherited
    NAMES = auto()  # the same by their names alone
    URL = auto()
    HEADERS = auto()
    TOKEN_NAME = auto()
    SECONDS = auto()  # how long a tool may take
    MILLISECONDS = auto()


Shape = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A file beneath a folder, which an environment variable may move."""

    folder: str
    file: str
    variable: str = ""

    def path(self, environ: Mapping[str, str]) -> Path:
        """The absolute path; ConfigError without a home folder."""
        try:
            moved = Path(environ.get(self.variable, "")).expanduser()
            return (moved if moved.is_absolute() else Path(self.folder).expanduser()) / self.file
        except RuntimeError:
            raise ConfigError("There is no home folder for clients' files.", hint="Set HOME.") from None


def _beneath_home(file: str) -> tuple[Place, ...]:
    return (Place("~", file),)


def _beneath_config(file: str) -> tuple[Place, ...]:
    return (Place("~/.config", file, "XDG_CONFIG_HOME"),)


def _beneath_applications(file: str) -> tuple[Place, ...]:
    """Where desktop programs built on Electron keep their data."""
    return (Place("~/Library/Application Support", file),) if sys.platform == "darwin" else _beneath_config(file)


@dataclass(frozen=True, slots=True)
class Host:
    """One host.

    `user` are the places of its file, the likeliest first, `project` is the file's path in a project. `path` leads to
    the servers in it. `reference` is how it writes an environment variable (`%s` is the name), empty where it cannot;
    `workspace` how it calls the open project. Of `around` is the rest of a file that holds one server.
    """

    name: str
    title: str
    format: Format
    path: tuple[str, ...]
    stdio: Shape
    http: Shape | None
    user: tuple[Place, ...] = ()
    project: str = ""
    reference: str = ""
    inherits: bool = False
    workspace: str = ""
    around: Shape | None = None

    @property
    def transports(self) -> tuple[str, ...]:
        """What its file can hold."""
        return ("stdio", "http") if self.http else ("stdio",)

    @property
    def is_editable(self) -> bool:
        """Whether an entry can be put into its file without a library for its format."""
        return self.format != "yaml"


@dataclass(frozen=True, slots=True)
class Launch:
    """A daemon that the host starts: an absolute path, and what `serve` is told."""

    command: str
    arguments: tuple[str, ...]

    def blanks(self, host: Host) -> dict[Blank, Json]:
        """What fills the host's shape."""
        passed = () if host.inherits else FORWARDED
        variables: JsonObject | None = {name: host.reference % name for name in passed} if host.reference else None
        return {
            Blank.COMMAND: self.command,
            Blank.ARGUMENTS: list(self.arguments),
            Blank.COMMAND_LINE: [self.command, *self.arguments],
            Blank.VARIABLES: variables,
            Blank.NAMES: list(passed),
        }


@dataclass(frozen=True, slots=True)
class Remote:
    """A daemon that already runs, and whether it asks for a token."""

    url: str
    with_token: bool = False

    def blanks(self, host: Host) -> dict[Blank, Json]:
        """What fills the host's shape; FailedPrecondition where only the token itself could stand in the file."""
        names_it = Blank.TOKEN_NAME in (host.http or {}).values()
        if self.with_token and not (host.reference or names_it):
            raise FailedPrecondition(
                f"{host.title} takes a token only in clear, and none is written into a file.",
                hint="Use --transport stdio, which needs no token.",
            )
        header: JsonObject | None = {"Authorization": f"Bearer {host.reference % TOKEN}"} if host.reference else None
        return {
            Blank.URL: self.url,
            Blank.HEADERS: header if self.with_token else None,
            Blank.TOKEN_NAME: TOKEN if self.with_token else None,
            Blank.NAMES: [TOKEN] if self.with_token else None,
        }


def entry_of(host: Host, server: Launch | Remote) -> JsonObject:
    """The server in the host's words; FailedPrecondition where the host cannot have it."""
    shape = host.stdio if isinstance(server, Launch) else host.http
    if shape is None:
        raise FailedPrecondition(
            f"{host.title} takes no server over HTTP from its file.", hint="Leave --transport http out."
        )
    times: dict[Blank, Json] = {Blank.SECONDS: TIMEOUT_S, Blank.MILLISECONDS: TIMEOUT_S * 1000}
    return dict(_filled(shape, server.blanks(host) | times))


def _filled(shape: Shape, blanks: Mapping[Blank, Json]) -> Iterator[tuple[str, Json]]:
    """The shape with its blanks filled; what nothing is to be said of is left out."""
    for key, part in shape.items():
        value: Json = part
        if isinstance(part, Blank):
            value = blanks.get(part)
        elif isinstance(part, Mapping):
            value = dict(_filled(part, blanks))
        if value not in (None, {}, []):
            yield key, value


def document_of(host: Host, entry: JsonObject) -> JsonObject:
    """A whole file that holds the server and nothing else."""
    if host.around is not None:
        return {**host.around, host.path[0]: [entry]}
    document: JsonObject = {ALIAS: entry}
    for key in reversed(host.path):
        document = {key: document}
    return document


_COMMAND: Final = {"command": Blank.COMMAND, "args": Blank.ARGUMENTS, "env": Blank.VARIABLES}
_REMOTE: Final = {"url": Blank.URL, "headers": Blank.HEADERS}
_MS: Final = {"timeout": Blank.MILLISECONDS}
_S: Final = {"timeout": Blank.SECONDS}
_STDIO: Final = {"type": "stdio"}
_CODE: Final = "Code/User/globalStorage"
_SERVERS: Final = ("mcpServers",)

HOSTS: Final = {
    host.name: host
    for host in (
        Host(
            "claude-desktop", "Claude Desktop", "json", _SERVERS,
            stdio=_COMMAND, http=None,
            user=_beneath_applications("Claude/claude_desktop_config.json"),
        ),
        Host(
            "claude-code", "Claude Code", "json", _SERVERS,
            stdio={**_STDIO, **_COMMAND, **_MS}, http={"type": "http", **_REMOTE, **_MS},
            user=(Place("~", ".claude.json", "CLAUDE_CONFIG_DIR"),), project=".mcp.json",
            reference="${%s}", inherits=True, workspace=".",
        ),
        Host(
            "cursor", "Cursor", "jsonc", _SERVERS,
            stdio={**_STDIO, **_COMMAND}, http=_REMOTE,
            user=_beneath_home(".cursor/mcp.json"), project=".cursor/mcp.json",
            reference="${env:%s}", workspace="${workspaceFolder}",
        ),
        Host(
            "vscode", "VS Code", "jsonc", ("servers",),
            stdio={**_STDIO, **_COMMAND}, http={"type": "http", **_REMOTE},
            user=_beneath_applications("Code/User/mcp.json"), project=".vscode/mcp.json",
            reference="${env:%s}", inherits=True, workspace="${workspaceFolder}",
        ),
        Host(
            "visual-studio", "Visual Studio", "jsonc", ("servers",),
            stdio={**_STDIO, **_COMMAND}, http={"type": "http", **_REMOTE}, project=".mcp.json",
        ),
        Host(
            "codex", "Codex", "toml", ("mcp_servers",),
            stdio={
                "command": Blank.COMMAND, "args": Blank.ARGUMENTS, "env_vars": Blank.NAMES,
                "startup_timeout_sec": 30, "tool_timeout_sec": Blank.SECONDS,
            },
            http={"url": Blank.URL, "bearer_token_env_var": Blank.TOKEN_NAME, "tool_timeout_sec": Blank.SECONDS},
            user=(Place("~/.codex", "config.toml", "CODEX_HOME"),), project=".codex/config.toml", workspace=".",
        ),
        Host(
            "windsurf", "Windsurf", "json", _SERVERS,
            stdio=_COMMAND, http={"serverUrl": Blank.URL, "headers": Blank.HEADERS},
            user=_beneath_home(".codeium/windsurf/mcp_config.json"), reference="${env:%s}",
        ),
        Host(
            "zed", "Zed", "jsonc", ("context_servers",),
            stdio={**_COMMAND, **_S}, http={**_REMOTE, **_S},
            user=_beneath_config("zed/settings.json"), project=".zed/settings.json",
        ),
        Host(
            "gemini-cli", "Gemini CLI", "jsonc", _SERVERS,
            stdio={**_COMMAND, **_MS}, http={"httpUrl": Blank.URL, "headers": Blank.HEADERS, **_MS},
            user=_beneath_home(".gemini/settings.json"), project=".gemini/settings.json",
            reference="${%s}", workspace=".",
        ),
        Host(
            "opencode", "OpenCode", "jsonc", ("mcp",),
            stdio={"type": "local", "command": Blank.COMMAND_LINE, "enabled": True, **_MS},
            http={"type": "remote", **_REMOTE, "enabled": True, **_MS},
            user=_beneath_config("opencode/opencode.json") + _beneath_config("opencode/opencode.jsonc"),
            project="opencode.json", reference="{env:%s}", inherits=True, workspace=".",
        ),
        Host(
            "cline", "Cline", "json", _SERVERS,
            stdio={**_STDIO, **_COMMAND, **_S}, http={"type": "streamableHttp", **_REMOTE, **_S},
            user=_beneath_home(".cline/data/settings/cline_mcp_settings.json")
            + _beneath_applications(f"{_CODE}/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"),
            inherits=True,
        ),
        Host(
            "roo", "Roo Code", "json", _SERVERS,
            stdio={**_STDIO, **_COMMAND, **_S}, http={"type": "streamable-http", **_REMOTE, **_S},
            user=_beneath_applications(f"{_CODE}/rooveterinaryinc.roo-cline/settings/mcp_settings.json"),
            project=".roo/mcp.json", reference="${env:%s}",
        ),
        Host(
            "continue", "Continue", "yaml", _SERVERS,
            stdio={"name": ALIAS, **_STDIO, **_COMMAND},
            http={
                "name": ALIAS, "type": "streamable-http", "url": Blank.URL,
                "requestOptions": {"headers": Blank.HEADERS},
            },
            user=_beneath_home(".continue/config.yaml"), project=f".continue/mcpServers/{ALIAS}.yaml",
            reference="${{ secrets.%s }}", inherits=True,
            around={"name": ALIAS, "version": "1.0.0", "schema": "v1"},
        ),
        Host(
            "lm-studio", "LM Studio", "json", _SERVERS,
            stdio=_COMMAND, http=_REMOTE, user=_beneath_home(".lmstudio/mcp.json"),
        ),
        Host(
            "copilot-cli", "Copilot CLI", "json", _SERVERS,
            stdio={"type": "local", **_COMMAND, "tools": ["*"], **_MS},
            http={"type": "http", **_REMOTE, "tools": ["*"], **_MS},
            user=(Place("~/.copilot", "mcp-config.json", "COPILOT_HOME"),), project=".github/mcp.json",
            reference="${%s}", inherits=True, workspace=".",
        ),
        Host(
            "goose", "Goose", "yaml", ("extensions",),
            stdio={
                "type": "stdio", "name": ALIAS, "enabled": True, "cmd": Blank.COMMAND, "args": Blank.ARGUMENTS, **_S,
            },
            http={
                "type": "streamable_http", "name": ALIAS, "enabled": True, "uri": Blank.URL,
                "headers": Blank.HEADERS, "env_keys": Blank.NAMES, **_S,
            },
            user=_beneath_config("goose/config.yaml"), reference="${%s}", inherits=True,
        ),
        Host(
            "kiro", "Kiro", "json", _SERVERS,
            stdio={**_COMMAND, **_MS}, http={**_REMOTE, **_MS},
            user=_beneath_home(".kiro/settings/mcp.json"), project=".kiro/settings/mcp.json", reference="${%s}",
        ),
        Host(
            "warp", "Warp", "json", _SERVERS,
            stdio=_COMMAND, http=_REMOTE, user=_beneath_home(".warp/.mcp.json"), project=".warp/.mcp.json",
        ),
        Host(
            "amp", "Amp", "jsonc", ("amp.mcpServers",),
            stdio=_COMMAND, http=_REMOTE, user=_beneath_config("amp/settings.json"), project=".amp/settings.json",
        ),
        Host(
            "junie", "Junie", "json", _SERVERS,
            stdio=_COMMAND, http={"type": "streamable-http", **_REMOTE},
            user=_beneath_home(".junie/mcp/mcp.json"), project=".junie/mcp/mcp.json",
        ),
        Host(
            "librechat", "LibreChat", "yaml", _SERVERS,
            stdio={**_STDIO, **_COMMAND, **_MS, "initTimeout": 30_000},
            http={"type": "streamable-http", **_REMOTE, **_MS, "initTimeout": 30_000},
            project="librechat.yaml", reference="${%s}",
        ),
    )
}  # fmt: skip
