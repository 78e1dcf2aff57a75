"""What a hostile caller sends: one coded refusal each, nothing sent upstream, nothing leaked, and the daemon goes on."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from PIL import Image

from kheish_mcp.daemon import Daemon
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.hosts import call, client_of, daemon_of, refused

pytestmark = pytest.mark.anyio

SECRETS = "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG\nPASSWORD=hunter2\n"


@pytest.fixture
async def daemon(state_root: Path, workspace: Path, emulator: OpenRouterEmulator) -> AsyncGenerator[Daemon]:
    """A daemon on a workspace, with the emulator as its provider."""
    env = environment(
        state_root,
        OPENROUTER_API_KEY=CANARY,
        OPENROUTER_BASE_URL=emulator.base_url,
        KHEISH_WORKSPACE_ROOT=str(workspace),
    )
    async with daemon_of(env) as running:
        yield running


@pytest.fixture
async def client(daemon: Daemon, emulator: OpenRouterEmulator) -> AsyncGenerator[Client]:
    """A client; after the test nothing has gone upstream, and the daemon still draws."""
    async with client_of(daemon) as connected:
        yield connected
        assert emulator.requests == []
        assert emulator.other_requests == []
        await call(connected, "generate_image", prompt="still there")


@pytest.fixture
def outside(tmp_path: Path, workspace: Path) -> Path:
    """A secret beside the workspace, and ways that lead to it."""
    secret = tmp_path / "secret.png"
    secret.write_text(SECRETS)
    (workspace / "link.png").symlink_to(secret)
    (workspace / "folder").symlink_to(tmp_path)
    os.link(secret, workspace / "hard.png")
    os.mkfifo(workspace / "pipe.png")
    (workspace / "renamed.png").write_text(SECRETS)
    (workspace / "empty.png").write_bytes(b"")
    (workspace / "half.png").write_bytes(png()[:200])
    return secret


def png() -> bytes:
    """A real PNG of some size."""
    out = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(out, "PNG")
    return out.getvalue()


PATHS = [
    "../secret.png", "folder/secret.png", "link.png", "hard.png", "pipe.png", "renamed.png", "empty.png", "half.png",
    "/etc/passwd", "~/.ssh/id_rsa", "..\\secret.png", "C:\\secret.png", "a\0b.png", "", " ", ".", "missing.png",
    "x" * 5000, "file:///etc/passwd", "FILE:///etc/passwd",
]  # fmt: skip
URLS = [
    "https://127.0.0.1/a.png", "https://localhost/a.png", "https://127.1/a.png", "https://2130706433/a.png",
    "https://0x7f000001/a.png", "https://0177.0.0.1/a.png", "https://[::1]/a.png", "https://[::ffff:127.0.0.1]/a.png",
    "https://[64:ff9b::7f00:1]/a.png", "https://0.0.0.0/a.png", "https://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1/a.png", "https://192.168.1.1/a.png", "https://[fe80::1]/a.png", "https://user:pw@127.0.0.1/a.png",
    "https://127.0.0.1:8443/a.png", "http://example.com/a.png", "ftp://example.com/a.png", "https://", "https:///a.png",
    "gopher://127.0.0.1/", "https://localhost./a.png", "https://127.0.0.1\\@example.com/", "https://①②⑦.⓪.⓪.①/a.png",
]  # fmt: skip
DATA = [
    "data:image/png;base64,", "data:image/png;base64,!!!!", "data:image/png;base64," + base64.b64encode(b"no").decode(),
    "data:text/html,<script>alert(1)</script>", "data:;base64," + base64.b64encode(SECRETS.encode()).decode(),
    "data:image/png,", "data:" + "x" * 3000,
]  # fmt: skip
IDS = [
    "asset-aaaaaaaaaaaaaaaaaaaaaaaaaa",
    "asset://asset-aaaaaaaaaaaaaaaaaaaaaaaaaa",
    "asset://",
    "asset-",
    "asset://../x",
]


@pytest.mark.parametrize("reference", [*PATHS, *URLS, *DATA, *IDS], ids=lambda reference: ascii(reference)[:40])
async def test_a_reference_that_must_not_be_followed_is_refused(reference: str, client: Client, outside: Path):
    arguments: tuple[tuple[str, dict[str, Any]], ...] = (
        ("edit_image", {"prompt": "x", "image_asset_ids": [reference]}),
        ("transcribe_audio", {"audio": reference}),
    )
    for name, given in arguments:
        error = await refused(client, name, **given)
        assert error["code"] in ("invalid_argument", "not_found", "permission_denied", "resource_exhausted")
        told = json.dumps(error)
        assert "hunter2" not in told
        assert "root:" not in told
        assert len(told) < 2500


@pytest.mark.parametrize(
    "path", ["../x.png", "/tmp/x.png", "folder/x.png", "a\0b", "link.png/x.png", "~/x.png", "\\x", ""]
)
async def test_a_place_that_must_not_be_written_is_refused_before_money_is_spent(
    path: str, client: Client, outside: Path
):
    error = await refused(client, "generate_image", prompt="a pier", save_as=path)
    assert error["code"] in ("invalid_argument", "permission_denied", "not_found")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("generate_image", {"prompt": "x" * 1_000_000}),
        ("generate_image", {"prompt": "x", "size": "../../etc"}),
        ("generate_image", {"prompt": "x", "aspect_ratio": "1;2"}),
        ("generate_image", {"prompt": "x", "model": "a\nb"}),
        ("generate_image", {"prompt": "x", "wait_seconds": -1}),
        ("generate_image", {"prompt": "x", "wait_seconds": 1e308}),
        ("generate_image", {"prompt": "x", "seed": 10**30}),
        ("generate_audio", {"input": "x" * 1_000_000}),
        ("generate_audio", {"input": " \n "}),
        ("generate_audio", {"input": "x", "voice": "../../voices/en"}),
        ("edit_image", {"prompt": "x", "image_asset_ids": ["x"] * 17}),
        ("edit_image", {"prompt": "x", "image_asset_ids": "x"}),
        ("emit_output", {}),
        ("emit_output", {"content": "  "}),
        ("emit_output", {"content": "x", "session": "../../x"}),
        ("emit_output", {"parts": [{"type": "asset", "asset_id": "asset-aaaaaaaaaaaaaaaaaaaaaaaaaa"}]}),
        ("emit_output", {"parts": [{"type": "html", "text": "x"}]}),
        ("store_asset", {"source": "renamed.png", "media_type": "image/png"}),
        ("store_asset", {"source": "data:text/plain,x", "kind": "microphone_segment"}),
        ("store_asset", {"source": "data:text/plain,x", "kind": "camera"}),
        ("list_models", {"limit": 0}),
        ("list_models", {f"limit{number}": 0 for number in range(101)}),
        ("list_models", {"limit": 10**9}),
        ("list_models", {"capability": "everything"}),
        ("get_job", {"job_id": "job-aaaaaaaaaaaaaaaaaaaaaaaaaa"}),
        ("get_job", {"job_id": "' OR 1=1 --"}),
        ("get_job", {}),
    ],
)
async def test_an_argument_that_cannot_be_meant_is_one_refusal(
    name: str, arguments: dict[str, Any], client: Client, outside: Path
):
    error = await refused(client, name, **arguments)
    assert error["code"] in ("invalid_argument", "not_found", "failed_precondition")
    assert error["hint"]
    told = json.dumps(error)
    assert "hunter2" not in told
    assert len(told) < 2500


async def test_a_bomb_of_a_picture_is_refused_by_its_size(client: Client, workspace: Path):
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    (workspace / "bomb.png").write_bytes(bomb.getvalue())
    error = await refused(client, "edit_image", prompt="x", image_asset_ids=["bomb.png"])
    assert error["code"] in ("resource_exhausted", "invalid_argument")
    assert "pixel" in json.dumps(error)


async def test_a_daemon_may_take_less_than_it_could(state_root: Path, workspace: Path):
    (workspace / "large.png").write_bytes(png())
    bounds = {"KHEISH_MAX_ASSET_BYTES": "5000", "KHEISH_MAX_PIXELS": "4000", "KHEISH_WORKSPACE_ROOT": str(workspace)}
    async with daemon_of(environment(state_root, **bounds)) as small, client_of(small) as client:
        data = "data:text/plain;base64," + base64.b64encode(b"x" * 5001).decode()
        for source in (data, "large.png", "data:image/png;base64," + base64.b64encode(png()[:4000]).decode()):
            error = await refused(client, "store_asset", source=source)
            assert error["code"] in ("resource_exhausted", "invalid_argument")
        assert (await call(client, "store_asset", source="data:text/plain,x"))["byte_length"] == 1
