"""The tools on a route to OpenRouter: what reaches the wire, what comes back, what is kept."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from mcp.client import Client
from PIL import Image

from kheish_mcp.daemon import Daemon
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults
from tests.hosts import call, client_of, daemon_of, refused, result_object

pytestmark = pytest.mark.anyio

PICTURES = "google/gemini-3.1-flash-image-preview"


@pytest.fixture
def env(state_root: Path, workspace: Path, emulator: OpenRouterEmulator) -> dict[str, str]:
    """The built-in routes, openrouter first and served by the emulator."""
    return environment(
        state_root,
        OPENROUTER_API_KEY=CANARY,
        OPENROUTER_BASE_URL=emulator.base_url,
        KHEISH_WORKSPACE_ROOT=str(workspace),
    )


@pytest.fixture
async def daemon(env: dict[str, str]) -> AsyncGenerator[Daemon]:
    """A daemon on those routes."""
    async with daemon_of(env) as running:
        yield running


@pytest.fixture
async def client(daemon: Daemon) -> AsyncGenerator[Client]:
    """Its client."""
    async with client_of(daemon) as connected:
        yield connected


def png(width: int = 64, height: int = 48) -> bytes:
    """A real PNG."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("named", "sent"),
    [
        ({}, PICTURES),
        ({"model": "openai/gpt-image-2"}, "openai/gpt-image-2"),
        ({"model": "openrouter/openai/gpt-image-2"}, "openai/gpt-image-2"),
        ({"model": "openai/gpt-image-2", "provider": "openrouter"}, "openai/gpt-image-2"),
        ({"provider": "openrouter"}, PICTURES),
    ],
)
async def test_the_route_s_prefix_never_reaches_the_wire(
    named: dict[str, str], sent: str, client: Client, emulator: OpenRouterEmulator
):
    made = await call(client, "generate_image", prompt="a pier", **named)
    assert made["model"] == sent
    assert [seen.body["model"] for seen in emulator.requests if seen.path == "/images"] == [sent]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"model": "openrouter/openai/gpt-image-2", "provider": "local"}, ["openrouter", "local"]),
        ({"model": "openrouter/"}, ["openrouter"]),
        ({"provider": "nowhere"}, ["nowhere"]),
    ],
)
async def test_a_contradiction_is_refused_before_anything_is_sent(
    named: dict[str, str], words: list[str], client: Client, emulator: OpenRouterEmulator
):
    error = await refused(client, "generate_image", prompt="a pier", **named)
    assert error["code"] in ("invalid_argument", "not_found")
    assert all(word in error["message"] for word in words)
    assert not [seen for seen in emulator.requests if seen.path == "/images"]


async def test_every_argument_of_a_picture_reaches_the_provider(client: Client, emulator: OpenRouterEmulator):
    await call(
        client,
        "generate_image",
        prompt="a pier",
        model="openai/gpt-image-2",
        aspect_ratio="16:9",
        quality="high",
        background="opaque",
        output_format="webp",
        seed=7,
    )
    [body] = [seen.body for seen in emulator.requests if seen.path == "/images"]
    wanted = {"quality": "high", "background": "opaque", "output_format": "webp", "seed": 7, "aspect_ratio": "16:9"}
    assert wanted.items() <= body.items()


async def test_several_pictures_are_asked_one_by_one_with_a_stepped_seed(client: Client, emulator: OpenRouterEmulator):
    made = await call(client, "generate_image", prompt="a pier", count=3, seed=40)
    assert len(made["assets"]) == 3
    seeds = sorted(seen.body["seed"] for seen in emulator.requests if seen.path == "/images")
    assert seeds == [40, 41, 42]


async def test_equal_pictures_are_one_asset_listed_once_each(client: Client, emulator: OpenRouterEmulator):
    emulator.same_picture = True
    made = await call(client, "generate_image", prompt="a pier", count=2)
    assert len(made["assets"]) == 2
    assert len({asset["asset_id"] for asset in made["assets"]}) == 1


async def test_an_edit_sends_the_pictures_in_order(client: Client, emulator: OpenRouterEmulator, workspace: Path):
    (workspace / "a.png").write_bytes(png(64, 48))
    stored = await call(client, "store_asset", source="a.png")
    made = await call(client, "generate_image", prompt="a pier")
    both = [stored["uri"], made["assets"][0]["asset_id"]]
    await call(client, "edit_image", prompt="put the first onto the second", image_asset_ids=both)
    urls = [reference["image_url"]["url"] for reference in emulator.requests[-1].body["input_references"]]
    subject, other = (base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls)
    assert subject == png(64, 48)
    assert hashlib.sha256(other).hexdigest() == made["assets"][0]["sha256"]


async def test_a_mask_is_refused_where_the_provider_has_no_word_for_it_and_holds_where_it_has(
    client: Client, emulator: OpenRouterEmulator, workspace: Path
):
    (workspace / "a.png").write_bytes(png(64, 48))
    left = Image.new("L", (64, 48))
    left.paste(255, (0, 0, 32, 48))
    left.save(workspace / "left.png")
    masked = {"image_asset_ids": ["a.png"], "mask": "left.png"}
    told = await refused(client, "edit_image", prompt="in the dark", **masked)
    assert (told["code"], emulator.requests) == ("invalid_argument", [])
    assert "mask" in told["message"]
    made = await call(client, "edit_image", prompt="brightness 0", provider="local", **masked)
    with Image.open(made["assets"][0]["path"]) as edited:
        assert [edited.convert("RGB").getpixel(place) for place in ((0, 0), (63, 0))] == [(0, 0, 0), (255, 0, 0)]


async def test_long_speech_is_split_at_sentences_and_joined(client: Client, emulator: OpenRouterEmulator):
    text = " ".join(f"This is sentence number {n} of a rather long text." for n in range(130))
    made = await call(client, "generate_audio", input=text, format="wav")
    sent = [seen.body["input"] for seen in emulator.requests if seen.path == "/audio/speech"]
    assert len(sent) > 1
    assert "".join(sent) == text
    assert all(piece.rstrip().endswith(".") for piece in sent)
    [sound] = made["assets"]
    assert sound["media_type"] == "audio/wav"
    listed = [asset for asset in (await client.list_resources()).resources if asset.mime_type == "audio/wav"]
    assert [str(asset.uri) for asset in listed] == [sound["uri"]]


async def test_save_as_finds_a_free_name_and_overwrites_nothing(client: Client, workspace: Path):
    (workspace / "pier.png").write_text("mine")
    made = await call(client, "generate_image", prompt="a pier", save_as="pier.png")
    path = Path(made["assets"][0]["path"])
    assert path.parent == workspace
    assert path.name != "pier.png"
    assert (workspace / "pier.png").read_text() == "mine"
    with Image.open(path) as picture:
        picture.load()


async def test_one_of_three_that_fails_is_a_warning(client: Client, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.status(400, "the third was too much"), path="/images")
    result = await client.call_tool("generate_image", {"prompt": "a pier", "count": 3})
    made = result_object(result)
    assert not result.is_error
    assert len(made["assets"]) == 2
    assert any("the third was too much" in warning for warning in made["warnings"])


async def test_a_result_never_outgrows_the_host(client: Client, emulator: OpenRouterEmulator):
    emulator.picture_bytes = 3_000_000
    result = await client.call_tool("generate_image", {"prompt": "a pier", "count": 2, "preview": "full"})
    made = result_object(result)
    wire = result.model_dump_json(by_alias=True, exclude_none=True)
    assert len(wire) < 900_000
    assert [asset["byte_length"] >= 3_000_000 for asset in made["assets"]] == [True, True]
    assert [block.type for block in result.content].count("resource_link") == 2
    assert json.dumps(made["warnings"]).count("too large") <= 2


async def test_audio_is_published_by_parts_and_inline(client: Client):
    quiet = await client.call_tool("generate_audio", {"input": "Hello.", "format": "wav"})
    assert [block.type for block in quiet.content] == ["text", "resource_link"]
    asset_id = result_object(quiet)["assets"][0]["asset_id"]
    named = {"content": "Here:", "artifact_ids": [asset_id]}
    linked = await client.call_tool("emit_output", named)
    assert [block.type for block in linked.content] == ["text", "resource_link", "text"]
    by_uri = await client.call_tool(
        "emit_output", {"content": "Here:", "artifact_ids": [f"asset://{asset_id}", asset_id]}
    )
    assert [block.type for block in by_uri.content] == ["text", "resource_link", "text"]
    loud = await client.call_tool("emit_output", {**named, "include_artifacts_inline": True})
    assert [block.type for block in loud.content] == ["text", "audio", "text"]
    parts = [{"type": "asset", "asset_id": asset_id}, {"type": "text", "text": "That was it."}]
    ordered = await client.call_tool("emit_output", {"parts": parts})
    assert [block.type for block in ordered.content] == ["audio", "text", "text"]
    full = await client.call_tool("generate_audio", {"input": "Hello again.", "format": "wav", "preview": "full"})
    assert [block.type for block in full.content] == ["text", "audio", "resource_link"]


async def test_a_transcript_can_be_subtitles(client: Client):
    spoken = await call(client, "generate_audio", input="Hello there.", format="mp3")
    heard = await call(client, "transcribe_audio", audio=spoken["assets"][0]["asset_id"], format="srt",
                       model="openai/whisper-1")  # fmt: skip
    assert heard["assets"][0]["file_name"].endswith(".srt")
    assert heard["transcript_asset_id"] == heard["assets"][0]["asset_id"]


async def test_what_a_wrong_argument_is_told(client: Client, emulator: OpenRouterEmulator):
    for wrong in ({}, {"prompt": ""}, {"prompt": "x", "count": 5}, {"prompt": "x", "colour": "red"}, {"prompt": 3}):
        error = await refused(client, "generate_image", **wrong)
        assert error["code"] == "invalid_argument"
        assert error["retryable"] is False
        assert "prompt" in error["hint"]
    assert emulator.requests == []
