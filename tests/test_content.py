"""Results as each client and each revision can take them, and never larger than they may be."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from PIL import Image

from kheish_mcp.errors import ResourceExhausted
from kheish_mcp.mcp_server.content import Presenter, refusal
from kheish_mcp.media import Media
from kheish_mcp.profiles import PROFILES, UNKNOWN, Profile, profile_of
from kheish_mcp.stores.assets import Asset, AssetStore
from kheish_mcp.stores.database import Database
from kheish_mcp.tools.base import Outcome, Published
from kheish_mcp.workers import Workers

pytestmark = pytest.mark.anyio

NEWEST = "2026-07-28"
Shelf = tuple[AssetStore, Workers]


@pytest.fixture
async def shelf(state_root: Path) -> AsyncGenerator[Shelf]:
    """A real store and real workers."""
    workers = Workers(1)
    async with Database.open(state_root) as database:
        yield AssetStore(state_root, database), workers
    await workers.close()


def noise(width: int, height: int) -> bytes:
    """A PNG that does not compress: about a byte a pixel."""
    out = io.BytesIO()
    Image.effect_noise((width, height), 90).save(out, "PNG")
    return out.getvalue()


def sound(seconds: float) -> bytes:
    """A WAV."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(int(seconds * 8000) * 2))
    return out.getvalue()


async def kept(shelf: Shelf, *pieces: bytes) -> tuple[Asset, ...]:
    """Assets of these bytes."""
    return tuple([await shelf[0].keep(Media(piece, ""), owner="local") for piece in pieces])


async def shown(
    shelf: Shelf, outcome: Outcome | Published, profile: Profile = UNKNOWN, revision: str = NEWEST
) -> t.CallToolResult:
    """The result for a client."""
    presenter = Presenter(*shelf, profile, revision)
    if isinstance(outcome, Outcome):
        return await presenter.outcome(outcome, structured=False)
    return await presenter.published(outcome)


def kinds(result: t.CallToolResult) -> list[str]:
    """The blocks' types in order."""
    return [block.type for block in result.content]


def weight(result: t.CallToolResult) -> int:
    """Bytes on the wire."""
    return len(result.model_dump_json(by_alias=True, exclude_none=True).encode())


@pytest.mark.parametrize(
    ("revision", "picture", "spoken"),
    [
        ("2024-11-05", ["text", "image"], ["text"]),
        ("2025-03-26", ["text", "image"], ["text", "audio"]),
        ("2025-06-18", ["text", "image", "resource_link"], ["text", "audio", "resource_link"]),
        ("2025-11-25", ["text", "image", "resource_link"], ["text", "audio", "resource_link"]),
        (NEWEST, ["text", "image", "resource_link"], ["text", "audio", "resource_link"]),
    ],
)
async def test_each_revision_gets_the_blocks_that_it_knows(
    revision: str, picture: list[str], spoken: list[str], shelf: Shelf
):
    image, wav = await kept(shelf, noise(50, 50), sound(1))
    assert kinds(await shown(shelf, Outcome({}, (image,)), revision=revision)) == picture
    assert kinds(await shown(shelf, Outcome({}, (wav,), "full"), revision=revision)) == spoken


async def test_structured_content_is_for_tools_with_a_schema_and_revisions_that_know_it(shelf: Shelf):
    for revision, wanted in (("2025-03-26", None), ("2025-06-18", {"a": 1}), (NEWEST, {"a": 1})):
        result = await Presenter(*shelf, UNKNOWN, revision).outcome(Outcome({"a": 1}), structured=True)
        assert result.structured_content == wanted
        assert json.loads(result.content[0].text) == {"a": 1}  # type: ignore[union-attr]  # always there too
    assert (await shown(shelf, Outcome({"a": 1}))).structured_content is None


async def test_a_large_picture_is_shown_small_and_linked_whole(shelf: Shelf):
    [large] = await kept(shelf, noise(1600, 900))
    result = await shown(shelf, Outcome({}, (large,)))
    _, preview, link = result.content
    assert isinstance(preview, t.ImageContent)
    assert isinstance(link, t.ResourceLink)
    assert len(preview.data) * 3 // 4 <= 150_000
    assert (link.size, str(link.uri)) == (large.byte_length, large.uri)


async def test_a_preview_can_be_left_out_or_asked_whole(shelf: Shelf):
    [picture] = await kept(shelf, noise(600, 600))
    assert kinds(await shown(shelf, Outcome({}, (picture,), "none"))) == ["text", "resource_link"]
    whole = (await shown(shelf, Outcome({}, (picture,), "full"))).content[1]
    assert isinstance(whole, t.ImageContent)
    assert len(whole.data) * 3 // 4 >= picture.byte_length - 2


@pytest.mark.parametrize("preview", ["auto", "full"])
async def test_no_result_outgrows_its_bound_and_what_does_not_fit_is_a_link_with_a_warning(preview: Any, shelf: Shelf):
    pictures = await kept(shelf, *(noise(1500, 1400 + n) for n in range(4)))
    result = await shown(shelf, Outcome({"warnings": ["earlier"]}, pictures, preview))
    assert weight(result) < 900_000
    assert kinds(result).count("resource_link") == 4
    told = json.loads(result.content[0].text)["warnings"]  # type: ignore[union-attr]
    assert told[0] == "earlier"
    assert len(told) == 1 or preview == "full"


async def test_many_pictures_in_one_output_still_fit(shelf: Shelf):
    pictures = await kept(shelf, *(noise(1100, 1000 + n) for n in range(7)))
    assert weight(await shown(shelf, Published({}, pictures))) < 900_000


async def test_an_output_keeps_its_order_and_its_object_comes_last(shelf: Shelf):
    picture, wav, note = await kept(shelf, noise(40, 40), sound(1), b"a note")
    result = await shown(shelf, Published({"output_id": "x"}, ("before", picture, "between", wav, note)))
    assert kinds(result) == ["text", "image", "text", "audio", "text", "text"]
    assert [block.text for block in result.content if isinstance(block, t.TextContent)][:3] == [
        "before",
        "between",
        "a note",
    ]
    assert json.loads(result.content[-1].text) == {"output_id": "x"}  # type: ignore[union-attr]


async def test_a_sound_that_is_only_named_is_a_link_and_a_picture_is_seen(shelf: Shelf):
    picture, wav = await kept(shelf, noise(40, 40), sound(1))
    result = await shown(shelf, Published({}, ("words",), (picture, wav)))
    assert kinds(result) == ["text", "image", "resource_link", "text"]
    old = await shown(shelf, Published({}, ("words",), (wav,)), revision="2025-03-26")
    assert kinds(old) == ["text", "text", "text"]
    assert old.content[1].text == wav.uri  # type: ignore[union-attr]


async def test_a_sound_that_is_too_large_is_a_link_with_a_warning(shelf: Shelf):
    [wav] = await kept(shelf, sound(60))
    result = await shown(shelf, Published({}, (wav,)))
    assert kinds(result) == ["resource_link", "text"]
    assert wav.asset_id in json.loads(result.content[-1].text)["warnings"][0]  # type: ignore[union-attr]


async def test_a_profile_changes_what_its_client_gets(shelf: Shelf):
    [picture] = await kept(shelf, noise(40, 40))
    blind = replace(UNKNOWN, pictures=False)
    assert kinds(await shown(shelf, Outcome({}, (picture,), "full"), blind)) == ["text", "resource_link"]
    unlinked = replace(UNKNOWN, links=False)
    assert kinds(await shown(shelf, Outcome({}, (picture,)), unlinked)) == ["text", "image"]


def test_an_unknown_client_gets_the_careful_defaults():
    for name in (None, "", "somebody new"):
        assert profile_of(name) is UNKNOWN
    assert (UNKNOWN.preview_px, UNKNOWN.preview_bytes, UNKNOWN.result_bytes, UNKNOWN.wait_seconds) == (
        1024, 150_000, 900_000, 45.0,
    )  # fmt: skip
    for name, profile in PROFILES.items():
        assert profile_of(name) is profile != UNKNOWN


def test_a_refusal_is_the_contract_s_object():
    error = ResourceExhausted("Too much.", hint="Wait.", retryable=True, retry_after_s=3.5, details={"limit": 2})
    result = refusal(error)
    assert result.is_error
    assert json.loads(result.content[0].text) == {  # type: ignore[union-attr]
        "error": {
            "code": "resource_exhausted", "message": "Too much.", "hint": "Wait.", "retryable": True,
            "retry_after_s": 3.5, "details": {"limit": 2},
        }
    }  # fmt: skip
