"""The demo: real files, a real transcript, and a plain word where a route cannot serve it."""

from __future__ import annotations

import json
import wave
from pathlib import Path

from PIL import Image

from kheish_mcp.cli.demo import SENTENCE
from tests.conftest import environment, kheish

NAMES = ["start", "picture", "edit", "speech", "transcript", "output", "resource"]


def test_the_whole_way_without_a_key_leaves_a_picture_a_sound_and_a_transcript(state_root: Path, tmp_path: Path):
    routes = tmp_path / "routes.toml"
    routes.write_text('[routes.r]\ndriver = "openrouter"\ndefault_model = "a/b"\n')
    # A routes file without the local route must not take the demo away.
    done = kheish("demo", "--output", "json", env=environment(state_root, KHEISH_ROUTES_FILE=str(routes)))
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["ok"] is True
    assert [step["name"] for step in shown["steps"]] == NAMES
    assert all(step["ok"] and step["seconds"] >= 0 for step in shown["steps"])
    files = {step["name"]: step["files"] for step in shown["steps"]}
    with Image.open(files["picture"][0]) as drawn, Image.open(files["edit"][0]) as edited:
        assert drawn.size == (640, 400)
        assert edited.width == 480
        red, green, blue = edited.convert("RGB").split()
        assert red.tobytes() == green.tobytes() == blue.tobytes()
    with wave.open(files["speech"][0]) as sound:
        assert sound.getnframes() > sound.getframerate()
    assert Path(files["transcript"][0]).read_text() == SENTENCE.lower().rstrip(".")


def test_a_route_that_is_not_there_ends_the_demo_with_a_code_and_a_hint(state_root: Path):
    done = kheish("demo", "--provider", "nowhere", "--output", "json", env=environment(state_root))
    assert done.returncode == 5
    shown = json.loads(done.stdout)
    assert shown["ok"] is False
    assert [step["ok"] for step in shown["steps"]] == [True, False]
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["code"] == "not_found"
    assert "local" in error["hint"]


def test_offline_forbids_every_route_but_local(state_root: Path):
    done = kheish("demo", "--offline", "--provider", "openrouter", env=environment(state_root))
    assert done.returncode == 2
    assert "Leave --provider out." in done.stderr
