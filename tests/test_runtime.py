"""What the daemon says it can do: flags, reasons, and a tool list that follows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from kheish_mcp.secret import Secret
from kheish_mcp.stores.auth import AuthStore
from tests.conftest import CANARY, environment
from tests.hosts import ERAS, client_of, daemon_of, refused

pytestmark = pytest.mark.anyio

MASTER = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
PAGE = """
version = 1
default_route = "openrouter"

[routes.openrouter]
driver = "openrouter"
default_model = "openai/gpt-5.4-mini"
model_support = "any"
auth_ref = "openrouter.primary"
"""
GATED = {"generate_image", "edit_image", "generate_audio", "transcribe_audio", "get_job"}


def with_routes(state_root: Path, text: str, **more: str) -> dict[str, str]:
    """Variables for a daemon with a routes file."""
    state_root.mkdir(exist_ok=True)
    path = state_root / "routes.toml"
    path.write_text(text)
    return environment(state_root, KHEISH_ROUTES_FILE=str(path), KHEISH_AUTH_STORE_MASTER_KEY=MASTER, **more)


def set_slot(state_root: Path, provider: str = "openrouter") -> None:
    """What `secrets set openrouter.primary` does, in another process as far as the daemon can tell."""
    AuthStore(state_root, Secret(MASTER)).set("openrouter.primary", provider, Secret(CANARY))


async def listed(client: Any) -> set[str]:
    """The names in tools/list."""
    return {tool.name for tool in (await client.list_tools()).tools}


async def test_the_flags_of_an_openrouter_route_are_the_page_s(state_root: Path):
    env = with_routes(state_root, PAGE)
    set_slot(state_root)
    async with daemon_of(env) as daemon:
        view: Any = await daemon.runtime()
    [route] = view["routes"]
    assert route["capabilities"] == {
        "matrix_version": 2,
        "multimodal_input": True,
        "native_web_search": False,
        "image_generation": True,
        "image_edit": True,
        "audio_generation": True,
        "transcription": True,
    }
    assert (route["state"], route["reasons"]) == ("ok", [])
    assert (route["driver"], route["provider"], route["model"]) == ("openrouter", "openrouter", "openai/gpt-5.4-mini")
    assert route["auth_ref"] == "openrouter.primary"
    assert route["base_url"] == "https://openrouter.ai/api/v1"
    assert view["default_route"] == "openrouter"
    assert CANARY not in json.dumps(view)


@pytest.mark.parametrize(
    ("flag", "gone"),
    [
        ("image_generation", "generate_image"),
        ("image_edit", "edit_image"),
        ("audio_generation", "generate_audio"),
        ("transcription", "transcribe_audio"),
    ],
)
async def test_a_capability_switched_off_takes_its_tool_away(flag: str, gone: str, state_root: Path):
    env = with_routes(state_root, f"{PAGE}{flag} = false\n")
    set_slot(state_root)
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        assert GATED - await listed(client) == {gone}
        why = await refused(client, gone, image_asset_ids=["x"])
        assert why["code"] == "failed_precondition"
        assert flag in why["message"]
        view: Any = await daemon.runtime()
    [tool] = [tool for tool in view["tools"] if tool["name"] == gone]
    assert tool["listed"] is False
    assert flag in tool["reason"]
    assert view["routes"][0]["capabilities"][flag] is False


async def test_a_slot_of_another_provider_is_a_reason_and_not_a_crash(state_root: Path):
    env = with_routes(state_root, PAGE)
    set_slot(state_root, "openai")
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        assert not GATED & await listed(client)
        view: Any = await daemon.runtime()
        assert view["routes"][0]["state"] == "error"
        assert "openai" in view["routes"][0]["reasons"][0]


async def test_a_routes_file_that_is_wrong_is_the_reason_of_every_absence(state_root: Path):
    env = with_routes(state_root, 'version = 1\n[routes.r]\ndriver = "openruoter"\n')
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        assert await listed(client) >= {"emit_output", "store_asset", "list_models"}
        why = await refused(client, "generate_image", prompt="a pier")
        assert "routes.toml:3:" in why["message"]
        view: Any = await daemon.runtime()
        assert view["routes"] == []
        assert "did you mean openrouter" in view["error"]
        assert "openruoter" not in json.dumps(view)


async def test_a_wrong_master_key_is_the_route_s_reason(state_root: Path):
    env = with_routes(state_root, PAGE)
    set_slot(state_root)
    env["KHEISH_AUTH_STORE_MASTER_KEY"] = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
    async with daemon_of(env) as daemon:
        view: Any = await daemon.runtime()
    assert view["routes"][0]["state"] == "error"
    assert "key" in view["routes"][0]["reasons"][0]


@pytest.mark.parametrize("mode", ERAS)
async def test_changes_are_seen_and_told_without_a_restart(mode: str, state_root: Path):
    env = with_routes(state_root, PAGE)
    changes: list[str] = []
    told = anyio.Event()

    async def note(message: Any) -> None:
        method = getattr(message, "method", None) or getattr(getattr(message, "root", None), "method", "")
        if "list_changed" in str(method):
            changes.append(str(method))
            told.set()

    async def until(wanted: set[str]) -> None:
        with anyio.fail_after(30):
            while (GATED & await listed(client)) != wanted:  # noqa: ASYNC110 - the watch looks once a second
                await anyio.sleep(0.05)

    async with daemon_of(env) as daemon, client_of(daemon, mode, message_handler=note) as client:
        assert not GATED & await listed(client)
        set_slot(state_root)
        await until(GATED)
        path = Path(env["KHEISH_ROUTES_FILE"])
        path.write_text(PAGE + "transcription = false\n")
        await until(GATED - {"transcribe_audio"})
        # A slip of the pen in the file leaves the last good routes standing, with the error on view.
        path.write_text(PAGE + "transcription = maybe\n")
        with anyio.fail_after(30):
            while "error" not in await daemon.runtime():  # noqa: ASYNC110 - likewise
                await anyio.sleep(0.05)
        assert GATED & await listed(client) == GATED - {"transcribe_audio"}
        AuthStore(state_root, Secret(MASTER)).delete("openrouter.primary")
        await until(set())
        if mode == "legacy":
            with anyio.fail_after(30):
                await told.wait()
            assert len(changes) >= 3


async def test_the_built_in_routes_need_no_file(state_root: Path):
    async with daemon_of(environment(state_root)) as daemon:
        view: Any = await daemon.runtime()
    assert [route["route_id"] for route in view["routes"]] == ["local"]
    assert all(tool["listed"] for tool in view["tools"] if tool["name"] in GATED)
    async with daemon_of(environment(state_root, OPENROUTER_API_KEY=CANARY)) as daemon:
        view = await daemon.runtime()
    assert [route["route_id"] for route in view["routes"]] == ["openrouter", "local"]
    assert view["default_route"] == "openrouter"
