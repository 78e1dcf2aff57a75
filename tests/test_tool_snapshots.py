"""The tools as a client sees them are prompts: whoever changes one looks at it.

`python -m tests.test_tool_snapshots` writes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kheish_mcp.mcp_server.server import described
from kheish_mcp.tools import TOOLS
from kheish_mcp.tools.base import Tool

FOLDER = Path(__file__).resolve().parent / "snapshots"
REVISIONS = ("2026-07-28", "2024-11-05")


def written(tool: Tool) -> str:
    """A tool's definitions, for the newest revision and for the oldest."""
    shown = {revision: described(tool, revision).model_dump(by_alias=True, exclude_none=True) for revision in REVISIONS}
    return json.dumps(shown, indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_is_what_was_last_looked_at(tool: Tool):
    path = FOLDER / f"{tool.name}.json"
    assert path.read_text(encoding="utf-8") == written(tool), "look at it, then: python -m tests.test_tool_snapshots"


def test_no_snapshot_is_left_over():
    assert {path.stem for path in FOLDER.glob("*.json")} == {tool.name for tool in TOOLS}


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_annotations_are_true(tool: Tool):
    hints = described(tool, REVISIONS[0]).annotations
    assert hints is not None
    assert hints.read_only_hint is (not tool.writes)
    assert not (tool.spends and hints.read_only_hint)
    assert hints.open_world_hint is (tool.spends or tool.name == "store_asset")  # which follows https:// references


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_names_and_sizes_fit_every_host(tool: Tool):
    schema: dict[str, Any] = described(tool, REVISIONS[0]).input_schema
    assert len(f"mcp__kheish__{tool.name}") <= 60
    assert len(tool.description) <= 500
    for name, argument in schema["properties"].items():
        kind = argument["type"]
        bounded = "enum" in argument or kind == "boolean" or {"maxLength", "maximum", "maxItems"} & argument.keys()
        assert bounded, f"{tool.name}.{name} has no bound"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in TOOLS:
        (FOLDER / f"{each.name}.json").write_text(written(each), encoding="utf-8")
