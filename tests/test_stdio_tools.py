"""The whole way, with the official client and the provider's stand-in: over stdio in both eras, else without the pipe."""

from __future__ import annotations

import base64
import io
import json
import wave
from pathlib import Path

import mcp_types as t
import pytest
from mcp.shared.exceptions import MCPError
from PIL import Image

from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.hosts import ERAS, call, client_of, daemon_of, refused, result_object, stdio_client

pytestmark = pytest.mark.anyio

MEDIA_TOOLS = ["generate_image", "edit_image", "generate_audio", "transcribe_audio"]
ALWAYS = ["emit_output", "store_asset", "list_models"]


@pytest.fixture
def env(state_root: Path, workspace: Path, emulator: OpenRouterEmulator) -> dict[str, str]:
    """A daemon whose built-in route openrouter is the emulator."""
    return environment(
        state_root,
        OPENROUTER_API_KEY=CANARY,
        OPENROUTER_BASE_URL=emulator.base_url,
        KHEISH_WORKSPACE_ROOT=str(workspace),
        KHEISH_DEFAULT_ROUTE="openrouter",
    )


def png(width: int = 64, height: int = 48, color: str = "red") -> bytes:
    """A real PNG."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), color).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("mode", ERAS)
async def test_three_pictures_asked_are_three_pictures_kept(
    mode: str, env: dict[str, str], emulator: OpenRouterEmulator
):
    async with daemon_of(env) as daemon, client_of(daemon, mode) as client:
        result = await client.call_tool("generate_image", {"prompt": "a lighthouse", "count": 3})
        assert not result.is_error, result_object(result)
        made = result_object(result)
        ids = [asset["asset_id"] for asset in made["assets"]]
        assert len(set(ids)) == 3
        assert made["route_id"] == made["provider"] == "openrouter"
        assert made["model"] == "google/gemini-3.1-flash-image-preview"
        assert made["cost_usd"] == pytest.approx(sum(bill.cost for bill in emulator.ledger))
        assert made["job_id"].startswith("job-")
        kinds = [block.type for block in result.content]
        assert kinds == ["text"] + ["image", "resource_link"] * 3
        assert result.structured_content is None
        for asset_id in ids:
            read = await client.read_resource(f"asset://{asset_id}")
            [contents] = read.contents
            assert isinstance(contents, t.BlobResourceContents)
            with Image.open(io.BytesIO(base64.b64decode(contents.blob))) as picture:
                picture.load()


@pytest.mark.parametrize("mode", ERAS)
async def test_every_tool_works(mode: str, env: dict[str, str], workspace: Path, state_root: Path):
    (workspace / "photo.png").write_bytes(png())
    async with stdio_client(env, mode=mode) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == [*MEDIA_TOOLS, "ask_model", *ALWAYS, "get_job"]
        stored = await call(client, "store_asset", source="photo.png", label="a photo")
        assert (stored["width"], stored["height"], stored["media_type"]) == (64, 48, "image/png")
        edited = await call(client, "edit_image", prompt="make it blue", image_asset_ids=[stored["asset_id"]])
        spoken = await call(client, "generate_audio", input="Hello there.", format="wav", save_as="out/hello.wav")
        with wave.open(str(workspace / "out" / "hello.wav")) as sound:
            assert sound.getframerate() == 24_000
        heard = await call(client, "transcribe_audio", audio=spoken["assets"][0]["uri"], timestamps="segment")
        assert heard["text"]
        assert heard["segments"]
        parts = [{"type": "text", "text": "Here:"}, {"type": "asset", "asset_id": edited["assets"][0]["asset_id"]}]
        shown = await client.call_tool("emit_output", {"parts": parts, "session": "demo"})
        assert [block.type for block in shown.content] == ["text", "image", "text"]
        asked = await call(
            client, "ask_model", input="What is this?", attachments=["photo.png", spoken["assets"][0]["uri"]]
        )
        assert (asked["text"], asked["finish_reason"]) == ("This is what the stand-in always says.", "stop")
        assert asked["cost_usd"] > 0
        models = await call(client, "list_models", capability="audio_generation")
        assert next(model["id"] for model in models["models"]) == "openai/gpt-4o-mini-tts-2025-12-15"
        job = await call(client, "get_job", job_id=spoken["job_id"])
        assert job["status"] == "completed"
        assert job["result"]["assets"] == spoken["assets"]
    # Left for the commands that are run on this state root later.
    assert json.loads((state_root / "serve.json").read_text())["workspace_root"] == str(workspace)


async def test_a_tool_that_is_not_listed_says_why_when_it_is_called(
    state_root: Path, emulator: OpenRouterEmulator, tmp_path: Path
):
    routes = tmp_path / "routes.toml"
    routes.write_text(
        f'[routes.openrouter]\ndriver = "openrouter"\ndefault_model = "openai/gpt-5.4-mini"\n'
        f'auth_ref = "openrouter.primary"\nbase_url = "{emulator.base_url}"\n'
    )
    env = environment(state_root, KHEISH_ROUTES_FILE=str(routes))
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ALWAYS
        why = await refused(client, "generate_image", prompt="a lighthouse")
        assert why["code"] == "failed_precondition"
        assert "openrouter.primary" in json.dumps(why)


async def test_tools_list_is_small_and_every_argument_is_described(env: dict[str, str]):
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        listed = await client.list_tools()
        wire = listed.model_dump_json(by_alias=True, exclude_none=True)
        assert len(wire.encode()) < 12_288
        for tool in listed.tools:
            schema = tool.input_schema
            assert schema["additionalProperties"] is False
            assert "$ref" not in json.dumps(schema)
            assert "anyOf" not in json.dumps(schema)
            assert all(prop.get("description") for prop in schema["properties"].values())
            assert tool.description
            assert tool.annotations is not None


async def test_wrong_arguments_are_named_with_all_that_the_tool_takes_its_own_first(env: dict[str, str]):
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        why = await refused(client, "generate_audio", text="hello", speed=9)
        assert why["message"] == (
            "Wrong arguments: input: it is required; speed: Input should be less than or equal to 4; "
            "text: there is no such argument."
        )
        assert why["hint"].startswith("It takes: input (required), voice, format, ")


async def test_an_unknown_tool_is_a_protocol_error(env: dict[str, str]):
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        with pytest.raises(MCPError) as refusal:
            await client.call_tool("draw_me_a_sheep", {})
        assert refusal.value.error.code == t.INVALID_PARAMS


async def test_an_edit_without_references_takes_the_one_picture_of_the_last_call(env: dict[str, str]):
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        nothing = await refused(client, "edit_image", prompt="make it blue")
        assert nothing["code"] == "invalid_argument"
        one = await call(client, "generate_image", prompt="a lighthouse")
        await call(client, "edit_image", prompt="make it blue")
        two = await call(client, "generate_image", prompt="a lighthouse", count=2)
        several = await refused(client, "edit_image", prompt="make it blue")
        assert set(several["details"]["candidates"]) == {asset["asset_id"] for asset in two["assets"]}
        assert one["assets"][0]["asset_id"] not in several["details"]["candidates"]
        empty = await refused(client, "edit_image", prompt="make it blue", image_asset_ids=[])
        assert empty["code"] == "invalid_argument"
