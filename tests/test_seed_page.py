"""Every command of the page that this project was created from, with its flags and in its order, in one folder."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.hosts import call

pytestmark = pytest.mark.anyio

DEADLINE_S = 60
ROUTES = """
version = 1
default_route = "openrouter"

[routes.openrouter]
driver = "openrouter"
default_model = "openai/gpt-5.4-mini"
model_support = "any"
auth_ref = "openrouter.primary"
"""
BOOTSTRAP = """
export KHEISH_AUTH_STORE_MASTER_KEY="$(./target/debug/kheish-daemon secrets generate)"

./target/debug/kheish-daemon secrets set openrouter.primary \\
  --offline \\
  --state-root .kheish-daemon-data \\
  --provider openrouter \\
  --from-env OPENROUTER_API_KEY
"""
SERVE = """
exec ./target/debug/kheish-daemon serve \\
  --bind 127.0.0.1:4000 \\
  --state-root .kheish-daemon-data \\
  --workspace-root .kheish-workspace \\
  --routes-file ./routes.toml
"""
SET_MODEL = """
./target/debug/kheish-daemon runtime set-model openrouter/openai/gpt-5.4-mini
"""
ASK = """
./target/debug/kheish-daemon sessions input demo \\
  --provider openrouter \\
  --model openai/gpt-5.4-mini \\
  "Summarize the attached files and be concise."
"""


class Terminal:
    """A shell in the folder of the page's reader."""

    def __init__(self, folder: Path, emulator: OpenRouterEmulator) -> None:
        self.folder = folder
        bare = {name: value for name, value in environment(folder).items() if name != "KHEISH_STATE_ROOT"}
        self.env = bare | {"OPENROUTER_API_KEY": CANARY, "OPENROUTER_BASE_URL": emulator.base_url}
        daemon = folder / "target" / "debug" / "kheish-daemon"
        daemon.parent.mkdir(parents=True)
        daemon.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kheish_mcp "$@"\n')
        daemon.chmod(0o755)
        (folder / "routes.toml").write_text(ROUTES)

    def type(self, script: str) -> list[Any]:
        """What the script prints, a JSON value a line."""
        done = subprocess.run(
            ["bash", "-c", f"set -eu\n{script}"],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    @contextmanager
    def serving(self) -> Iterator[int]:
        """The page's daemon, on a free port instead of everybody's, until it is told to stop; gives the port."""
        script = SERVE.replace("4000", "0")
        with subprocess.Popen(
            ["bash", "-c", script], cwd=self.folder, env=self.env, stderr=subprocess.PIPE, text=True
        ) as child:
            try:
                assert child.stderr is not None
                place = re.search(r"http://127\.0\.0\.1:(\d+)/mcp", child.stderr.readline())
                assert place is not None
                yield int(place[1])
                child.send_signal(signal.SIGTERM)
                assert child.wait(DEADLINE_S) == 0
            finally:
                child.kill()


async def test_every_command_of_the_page_works_as_printed(tmp_path: Path, emulator: OpenRouterEmulator):
    terminal = Terminal(tmp_path, emulator)
    # The two are one script, so that the key goes on to the commands behind it.
    *_, key = terminal.type(f'{BOOTSTRAP}\necho "\\"$KHEISH_AUTH_STORE_MASTER_KEY\\""')
    del terminal.env["OPENROUTER_API_KEY"]
    terminal.env["KHEISH_AUTH_STORE_MASTER_KEY"] = key
    with terminal.serving() as port:
        chosen, answer = terminal.type(SET_MODEL + ASK)
        (tmp_path / ".kheish-workspace" / "note.txt").write_text("The daemon made the folder that the page names.")
        async with Client(f"http://127.0.0.1:{port}/mcp") as client:
            assert (await call(client, "store_asset", source="note.txt"))["media_type"] == "text/plain"
            view = json.loads((await client.read_resource("kheish://runtime")).contents[0].text)  # type: ignore[union-attr]
            session = json.loads((await client.read_resource("kheish://sessions/demo")).contents[0].text)  # type: ignore[union-attr]
    assert (chosen["revision"], chosen["route_id"], chosen["model"]) == (1, "openrouter", "openai/gpt-5.4-mini")
    assert (view["revision"], view["routes"][0]["model"]) == (1, "openai/gpt-5.4-mini")
    [asked] = [seen for seen in emulator.requests if seen.path == "/chat/completions"]
    assert asked.body["model"] == "openai/gpt-5.4-mini"
    assert answer["text"] == "This is what the stand-in always says."
    assert [entry["text"] for entry in session["entries"]] == [
        "Summarize the attached files and be concise.", answer["text"],
    ]  # fmt: skip
