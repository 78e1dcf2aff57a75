"""Host configurations read as their hosts read them, and what their formats and schemas demand."""

from __future__ import annotations

import json
import tomllib
from collections import deque
from pathlib import Path
from typing import Any

import jsonschema

from kheish_mcp.hosts.known import Host

SCHEMAS = Path(__file__).resolve().parent / "schemas"
SCHEMA = {
    "claude-desktop": "claude-desktop",
    "claude-code": "claude-code-mcp",
    "cursor": "cursor-mcp",
    "vscode": "vscode-mcp",
    "visual-studio": "visualstudio-mcp",
    "codex": "codex-config",
    "windsurf": "windsurf-mcp",
    "zed": "zed-settings",
    "gemini-cli": "gemini-settings",
    "opencode": "opencode",
    "cline": "cline-mcp",
    "roo": "roo-mcp",
    "continue": "continue-yaml",
    "lm-studio": "lmstudio-mcp",
    "copilot-cli": "copilot-cli-mcp-config",
    "goose": "goose-config",
    "kiro": "kiro-mcp",
    "warp": "warp-mcp",
    "amp": "amp-settings",
    "junie": "junie-mcp",
    "librechat": "librechat-yaml",
}
# How long a tool may take there: the key, and how many of its units are a second.
TIMEOUTS = {
    "claude-code": ("timeout", 1000),
    "codex": ("tool_timeout_sec", 1),
    "zed": ("timeout", 1),
    "gemini-cli": ("timeout", 1000),
    "opencode": ("timeout", 1000),
    "cline": ("timeout", 1),
    "roo": ("timeout", 1),
    "copilot-cli": ("timeout", 1000),
    "goose": ("timeout", 1),
    "kiro": ("timeout", 1000),
    "librechat": ("timeout", 1000),
}


def read(text: str, form: str) -> dict[str, Any]:
    """The document, by the format's own reader; YAML by one that knows only what is written here."""
    loaded: dict[str, Any] = (
        tomllib.loads(text) if form == "toml" else _yaml(text) if form == "yaml" else json.loads(text)
    )
    return loaded


def check(host: Host, document: dict[str, Any]) -> None:
    """Raises where the host's schema does not take the document."""
    schema = json.loads((SCHEMAS / f"{SCHEMA[host.name]}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)


def entry_in(host: Host, document: dict[str, Any]) -> dict[str, Any]:
    """Our server in the document."""
    servers = document
    for key in host.path:
        servers = servers[key]
    entry: dict[str, Any] = servers[0] if isinstance(servers, list) else servers["kheish"]
    return entry


def command_of(entry: dict[str, Any]) -> list[str]:
    """The whole command line of an entry for stdio."""
    command = entry.get("command", entry.get("cmd"))
    return list(command) if isinstance(command, list) else [command, *entry["args"]]


def _yaml(text: str) -> Any:
    """Blocks of mappings and of lists of mappings, with JSON for what stands on one line."""
    lines: deque[tuple[int, str]] = deque()
    for line in text.splitlines():
        indent, said = len(line) - len(line.lstrip()), line.lstrip()
        if said.startswith("- "):
            lines += [(indent, "-"), (indent + 2, said[2:])]
        else:
            lines.append((indent, said))
    return _block(lines, 0)


def _block(lines: deque[tuple[int, str]], indent: int) -> Any:
    items: list[Any] = []
    while lines and lines[0] == (indent, "-"):
        lines.popleft()
        items.append(_block(lines, lines[0][0]))
    pairs: dict[str, Any] = {}
    while lines and lines[0][0] == indent:
        key, _, value = lines.popleft()[1].partition(":")
        pairs[key] = json.loads(value) if value.strip() else _block(lines, lines[0][0])
    return items or pairs
