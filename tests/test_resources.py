"""Assets, runtime, sessions and costs as a client reads them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from PIL import Image

from kheish_mcp.daemon import Daemon
from kheish_mcp.mcp_server.server import Face, KheishServer
from kheish_mcp.media import Media
from kheish_mcp.principals import LOCAL
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.hosts import ERAS, call, client_of, daemon_of
from tests.samples import wav

pytestmark = pytest.mark.anyio


@pytest.fixture
async def daemon(state_root: Path, emulator: OpenRouterEmulator) -> AsyncGenerator[Daemon]:
    """A daemon whose route openrouter is the emulator."""
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
    async with daemon_of(env) as running:
        yield running


@pytest.fixture(params=ERAS)
async def client(request: pytest.FixtureRequest, daemon: Daemon) -> AsyncGenerator[Client]:
    """A client of each protocol era."""
    async with client_of(daemon, request.param) as connected:
        yield connected


async def keep(daemon: Daemon, data: bytes, media_type: str = "", name: str = "", owner: str = "local") -> str:
    """The URI of an asset that was stored behind the client's back."""
    return (await daemon.parts.assets.keep(Media(data, media_type, name), owner=owner)).uri


async def read(client: Client, uri: str) -> Any:
    """The one content of a resource."""
    [contents] = (await client.read_resource(uri)).contents
    return contents


async def no_such(client: Client, uri: str) -> Any:
    """What is said of a resource that cannot be read."""
    with pytest.raises(MCPError) as refusal:
        await client.read_resource(uri)
    return refusal.value.error


def png(size: int = 40) -> bytes:
    """A real PNG."""
    out = io.BytesIO()
    Image.effect_noise((size, size), 90).save(out, "PNG")
    return out.getvalue()


async def test_the_bytes_are_the_bytes_and_the_listing_says_what_they_are(daemon: Daemon, client: Client):
    data = png(300)
    uri = await keep(daemon, data, name="noise.png")
    contents = await read(client, uri)
    assert isinstance(contents, t.BlobResourceContents)
    assert base64.b64decode(contents.blob) == data
    assert contents.mime_type == "image/png"
    [listed] = [one for one in (await client.list_resources()).resources if str(one.uri) == uri]
    assert (listed.name, listed.mime_type, listed.size) == ("noise.png", "image/png", len(data))
    assert listed.annotations is not None
    assert listed.annotations.last_modified is not None


async def test_a_text_comes_as_text_and_svg_and_its_like_never_as_themselves(daemon: Daemon, client: Client):
    note = await keep(daemon, "Grüße".encode(), "text/markdown")
    contents = await read(client, note)
    assert (contents.text, contents.mime_type) == ("Grüße", "text/markdown")
    svg = await keep(daemon, b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    contents = await read(client, svg)
    assert isinstance(contents, t.TextResourceContents)
    assert contents.mime_type == "text/plain"


async def test_a_transcribed_sound_has_canonical_text(client: Client):
    spoken = await call(client, "generate_audio", input="Hello there.", format="wav")
    uri = spoken["assets"][0]["uri"]
    assert (await read(client, f"{uri}/text")).text == "Hello there."
    heard = await call(client, "transcribe_audio", audio=uri)
    assert (await read(client, f"{uri}/text")).text == heard["text"]
    transcript = await read(client, f"asset://{heard['transcript_asset_id']}")
    assert transcript.text == heard["text"]


async def test_what_has_no_text_or_preview_says_how_to_get_one(daemon: Daemon, client: Client):
    picture, note = await keep(daemon, png()), await keep(daemon, b"words")
    assert (await no_such(client, f"{picture}/text")).code == t.INVALID_PARAMS
    assert (await no_such(client, f"{note}/preview")).code == t.INVALID_PARAMS


async def test_a_preview_is_a_small_picture(daemon: Daemon, client: Client):
    uri = await keep(daemon, png(1500))
    contents = await read(client, f"{uri}/preview")
    data = base64.b64decode(contents.blob)
    assert len(data) <= 150_000
    with Image.open(io.BytesIO(data)) as picture:
        assert max(picture.size) <= 1024


async def test_provenance_says_where_it_comes_from_and_keeps_the_prompt_to_itself(client: Client):
    made = await call(client, "generate_image", prompt="the secret garden")
    contents = await read(client, f"{made['assets'][0]['uri']}/provenance")
    origin = json.loads(contents.text)
    assert (origin["tool"], origin["route_id"], origin["model"]) == ("generate_image", "openrouter", made["model"])
    assert origin["cost_usd"] == made["cost_usd"]
    assert "secret garden" not in contents.text
    # A plain digest of a short prompt could be guessed.
    assert hashlib.sha256(b"the secret garden").hexdigest() not in contents.text


@pytest.mark.parametrize(
    "uri",
    [
        "asset://asset-aaaaaaaaaaaaaaaaaaaaaaaaaa",
        "asset://asset-aaaaaaaaaaaaaaaaaaaaaaaaaa/preview",
        "asset://../../etc/passwd",
        "asset://asset-AAAAAAAAAAAAAAAAAAAAAAAAAA",
        "file:///etc/passwd",
        "kheish://secrets",
        "kheish://sessions/../runtime",
        "kheish://sessions/never-used",
    ],
)
async def test_what_is_not_there_is_invalid_params_with_its_uri(client: Client, uri: str):
    error = await no_such(client, uri)
    assert error.code == t.INVALID_PARAMS
    assert error.data["uri"] == uri


async def test_a_foreign_asset_and_an_unknown_one_look_the_same(daemon: Daemon, client: Client):
    foreign = await keep(daemon, png(), owner="somebody else")
    unknown = "asset://asset-aaaaaaaaaaaaaaaaaaaaaaaaaa"
    told = [await no_such(client, uri) for uri in (foreign, unknown)]
    assert [(error.code, error.message, error.data["code"]) for error in told[:1]] == [
        (error.code, error.message, error.data["code"]) for error in told[1:]
    ]
    assert foreign not in [str(one.uri) for one in (await client.list_resources()).resources]


async def test_a_damaged_asset_is_data_loss_and_never_served(daemon: Daemon, client: Client, state_root: Path):
    uri = await keep(daemon, png(200))
    [blob] = [path for path in (state_root / "assets" / "blobs").rglob("*") if path.is_file()]
    blob.chmod(0o600)
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.write_bytes(data)
    for view in ("", "/preview"):
        error = await no_such(client, uri + view)
        assert error.code == t.INTERNAL_ERROR
        assert error.data == {"code": "data_loss", "uri": uri + view}


async def test_pages_are_newest_first_and_a_cursor_that_is_not_ours_is_refused(daemon: Daemon, client: Client):
    kept = [await keep(daemon, f"note {n}".encode(), "text/plain") for n in range(130)]
    first = await client.list_resources()
    assert first.next_cursor
    second = await client.list_resources(cursor=first.next_cursor)
    listed = [str(one.uri) for one in (*first.resources, *second.resources) if str(one.uri).startswith("asset://")]
    assert listed == kept[::-1]
    assert second.next_cursor is None
    for garbage in ("x", "asset-aaaaaaaaaaaaaaaaaaaaaaaaaa", "' OR 1=1 --"):
        with pytest.raises(MCPError) as refusal:
            await client.list_resources(cursor=garbage)
        assert refusal.value.error.code == t.INVALID_PARAMS


async def test_the_fixed_resources_and_the_templates_are_there(client: Client):
    listed = [str(one.uri) for one in (await client.list_resources()).resources]
    assert listed[:2] == ["kheish://runtime", "kheish://costs"]
    templates = {one.uri_template for one in (await client.list_resource_templates()).resource_templates}
    assert templates == {
        "asset://{asset_id}",
        "asset://{asset_id}/text",
        "asset://{asset_id}/preview",
        "asset://{asset_id}/provenance",
        "kheish://sessions/{session}",
    }


async def test_a_session_shows_what_was_published_in_order(client: Client):
    for word in ("first", "second"):
        await call(client, "emit_output", content=word, session="demo")
    contents = await read(client, "kheish://sessions/demo")
    assert [output["content"] for output in json.loads(contents.text)["outputs"]] == ["first", "second"]


async def test_costs_add_up_what_was_billed(client: Client, emulator: OpenRouterEmulator):
    await call(client, "generate_image", prompt="a pier", count=2)
    costs = json.loads((await read(client, "kheish://costs")).text)
    assert costs["total_usd"] == pytest.approx(sum(bill.cost for bill in emulator.ledger))
    assert costs["calls"] == 2


async def test_a_host_that_would_hang_up_on_a_large_message_is_told_the_file_instead(daemon: Daemon):
    data, fits = wav(bytes(8_000_000)), wav(bytes(7_000_000))
    large, small = await keep(daemon, data, "audio/wav"), await keep(daemon, fits, "audio/wav")
    text = await keep(daemon, b'"' * 4_000_000, "text/plain")
    async with client_of(daemon, client_info=t.Implementation(name="opencode", version="1")) as client:
        refusal = await no_such(client, large)
        assert refusal.data == {"code": "resource_exhausted", "uri": large}
        assert Path(refusal.message.rsplit(" at ")[-1].rstrip(".")).read_bytes() == data
        assert (await no_such(client, text)).data["code"] == "resource_exhausted"
        assert base64.b64decode((await read(client, small)).blob) == fits
    async with client_of(daemon) as client:
        assert base64.b64decode((await read(client, large)).blob) == data


async def test_a_caller_from_afar_is_told_no_path(daemon: Daemon):
    """Over HTTP nothing hangs up, and a path of this machine is nobody's business."""
    data = wav(bytes(8_000_000))
    uri = await keep(daemon, data, "audio/wav")
    afar = Face(
        lambda: daemon.parts, daemon.runtime, daemon.listeners, principal=lambda _: replace(LOCAL, at_hand=False)
    )
    who = t.Implementation(name="opencode", version="1")
    async with Client(KheishServer(afar), mode="2026-07-28", cache=None, client_info=who) as client:
        assert base64.b64decode((await read(client, uri)).blob) == data
