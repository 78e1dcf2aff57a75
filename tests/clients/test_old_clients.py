"""The official Python client of 2025 and 2026, in environments of their own: each lists, calls and reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import environment

from .workshop import python_with

PROBE = Path(__file__).with_name("probe.py")
# Version to the newest revision that it speaks; 2.x is this environment's own client, see tests/test_stdio_tools.py.
CLIENTS = {"1.9.4": "2025-03-26", "1.13.1": "2025-06-18", "1.30.0": "2025-11-25"}

# What they take apart of pydantic is not there any more in its newer versions.
WITH = {"1.9.4": ["pydantic<2.12"], "1.13.1": ["pydantic<2.12"]}


@pytest.mark.parametrize("version", CLIENTS)
def test_a_client_of_its_age_lists_calls_and_reads(version: str, state_root: Path):
    seen = probe(python_with(f"mcp=={version}", *WITH.get(version, ())), state_root)
    revision = CLIENTS[version]
    assert seen["revision"] == revision
    assert {"generate_image", "edit_image", "generate_audio", "transcribe_audio"} <= set(seen["tools"])
    links = ["resource_link"] if revision >= "2025-06-18" else []
    assert seen["picture"] == ["text", "image", *links]
    assert seen["speech"] == ["text", "audio", *links]
    assert seen["structured"] == seen["output_schemas"] == (revision >= "2025-06-18")
    assert seen["asset"] in seen["resources"]
    assert seen["read_bytes"] == pytest.approx(seen["byte_length"], abs=2)
    assert seen["refused"] == [True, "invalid_argument"]


def probe(python: Path, state_root: Path) -> dict[str, Any]:
    """What the old client saw."""
    env = environment(state_root)
    done = subprocess.run(
        [str(python), str(PROBE), sys.executable, "-m", "kheish_mcp", "serve", "--transport", "stdio"],
        input=json.dumps(env) + "\n",
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen
