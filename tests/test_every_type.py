"""Every media type of the contract, from a client's hand into the store and back as a resource, over the real wire."""

from __future__ import annotations

import base64
from pathlib import Path

import mcp_types as t
import pytest

from kheish_mcp.media import Media
from tests.conftest import environment
from tests.hosts import call, client_of, daemon_of, refused, stdio_client
from tests.samples import WHOLE, sound, wav
from tests.test_formats import SECRETS

pytestmark = pytest.mark.anyio


def declared(media: Media) -> str:
    """The media type with the layout of headerless samples."""
    pcm = media.pcm
    return f"{media.media_type};rate={pcm.rate};channels={pcm.channels}" if pcm else media.media_type


def read(contents: t.TextResourceContents | t.BlobResourceContents) -> bytes:
    """The bytes of a resource."""
    if isinstance(contents, t.TextResourceContents):
        return contents.text.encode()
    return base64.b64decode(contents.blob)


async def test_every_type_is_stored_and_read_back_to_the_byte(state_root: Path, workspace: Path):
    env = environment(state_root, KHEISH_WORKSPACE_ROOT=str(workspace))
    async with stdio_client(env) as client:
        for media in WHOLE.values():
            uri = f"data:{declared(media)};base64,{base64.b64encode(media.data).decode()}"
            asset = await call(client, "store_asset", source=uri)
            assert (asset["media_type"], asset["byte_length"]) == (media.media_type, len(media.data))
            assert (asset.get("duration_s") is not None) == media.media_type.startswith("audio/")
            [contents] = (await client.read_resource(asset["uri"])).contents
            assert read(contents) == media.data, media.media_type


async def test_files_go_by_their_bytes_and_a_microphone_by_two_types(state_root: Path, workspace: Path):
    env = environment(state_root, KHEISH_WORKSPACE_ROOT=str(workspace))
    files = {"live.webm": sound("live.webm"), "mic.wav": wav(), "voice.ogg": sound("opus.opus"), "holiday.png": SECRETS}
    for name, data in files.items():
        (workspace / name).write_bytes(data)
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        for name, media_type in (("live.webm", "audio/webm"), ("mic.wav", "audio/wav")):
            asset = await call(client, "store_asset", source=name, kind="microphone_segment")
            assert (asset["media_type"], asset["file_name"]) == (media_type, name)
        assert (await call(client, "store_asset", source="voice.ogg"))["media_type"] == "audio/ogg"
        error = await refused(client, "store_asset", source="voice.ogg", kind="microphone_segment")
        assert error["code"] == "invalid_argument"
        for asked in ({"source": "holiday.png"}, {"source": "holiday.png", "media_type": "image/png"}):
            error = await refused(client, "store_asset", **asked)
            assert error["code"] == "invalid_argument"
            assert "hunter2" not in str(error)
