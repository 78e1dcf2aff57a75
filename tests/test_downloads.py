"""Assets by URL: for whom, which part, with what said of them, and what is never served."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kheish_mcp.media import Media, Pcm
from kheish_mcp.stores.assets import Asset
from kheish_mcp.transports.downloads import PIECE, is_known, range_of
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.hosts import ERAS, call
from tests.sites import TRANSPORTS, Site, opened_site

pytestmark = pytest.mark.anyio

ME = "local"
TEXT = "abcdefghij"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'


@pytest.fixture
async def site(state_root: Path) -> AsyncGenerator[Site]:
    async with opened_site(environment(state_root), state_root.parent) as opened:
        yield opened


async def kept(site: Site, data: bytes, media_type: str = "", name: str = "", pcm: Pcm | None = None) -> Asset:
    """An asset of whoever asks from this machine."""
    return await site.daemon.parts.assets.keep(Media(data, media_type, name, pcm), owner=ME)


def png(width: int = 8, height: int = 6) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_range_is_read_as_the_standard_reads_it():
    cases = {
        None: (0, 10), "bytes=0-": (0, 10), "bytes=0-3": (0, 4), "bytes=4-4": (4, 5), "bytes=9-": (9, 10),
        "bytes=5-100": (5, 10), "bytes=-3": (7, 10), "bytes=-100": (0, 10), "BYTES=2-3": (2, 4),
        "bytes = 2 - 3": (2, 4), "bytes=3-2": (0, 10), "bytes=-": (0, 10), "bytes=": (0, 10), "bytes=a-b": (0, 10),
        "items=0-3": (0, 10), "bytes=0-1,3-4": (0, 10), "bytes=1--2": (0, 10), "bytes=+1-2": (0, 10),
        "bytes=0-" + "9" * 30: (0, 10), "bytes=١-٢": (0, 10),
    }  # fmt: skip
    assert {header: range_of(header, 10) for header in cases} == cases
    for nothing in ("bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99-100"):
        start, end = range_of(nothing, 10)
        assert start >= end


@given(first=st.integers(0, 30), last=st.integers(0, 30), size=st.integers(1, 25))
def test_a_range_never_leaves_the_file(first: int, last: int, size: int):
    data = bytes(range(size))
    start, end = range_of(f"bytes={first}-{last}", size)
    expected = data if last < first else data[first : last + 1]
    assert data[start:end] == expected


@given(length=st.integers(0, 30), size=st.integers(1, 25))
def test_the_last_bytes_are_the_last_bytes(length: int, size: int):
    start, end = range_of(f"bytes=-{length}", size)
    assert end - start == min(length, size)
    assert end == size


def test_a_condition_names_the_entity_or_not():
    for condition in ('"a"', 'W/"a"', '"b", "a"', "*", ' "a" '):
        assert is_known(condition, '"a"'), condition
    for condition in ("", '"b"', "a", '"A"', 'W/"b"'):
        assert not is_known(condition, '"a"'), condition


async def test_an_asset_comes_whole_with_what_is_true_of_it(site: Site):
    asset = await kept(site, png(), name="a cat.png")
    async with site.http() as http:
        answer = await http.get(f"/assets/{asset.asset_id}")
        assert (answer.status_code, answer.content) == (200, png())
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["content-length"] == str(len(png()))
        assert answer.headers["etag"] == f'"{asset.sha256}"'
        assert answer.headers["content-disposition"].startswith('inline; filename="a cat.png"')
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert "private" in answer.headers["cache-control"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        head = await http.head(f"/assets/{asset.asset_id}")
        assert (head.status_code, head.content) == (200, b"")
        assert {**head.headers, "date": ""} == {**answer.headers, "date": ""}


async def test_a_part_of_an_asset(site: Site):
    asset = await kept(site, TEXT.encode(), "text/plain")
    async with site.http() as http:

        async def part(header: str, **more: str) -> tuple[int, str, str | None]:
            answer = await http.get(f"/assets/{asset.asset_id}", headers={"Range": header, **more})
            assert answer.headers.get("content-length") == str(len(answer.content))
            return answer.status_code, answer.text, answer.headers.get("content-range")

        assert await part("bytes=2-4") == (206, "cde", "bytes 2-4/10")
        assert await part("bytes=-2") == (206, "ij", "bytes 8-9/10")
        assert await part("bytes=8-") == (206, "ij", "bytes 8-9/10")
        assert await part("bytes=0-9") == (200, TEXT, None)
        assert await part("bytes=10-") == (416, "", "bytes */10")
        assert await part("bytes=500-") == (416, "", "bytes */10")
        assert await part("bytes=500-600") == (416, "", "bytes */10")
        assert await part("bytes=0-1,4-5") == (200, TEXT, None)
        assert await part("bytes=2-4", **{"If-Range": f'"{asset.sha256}"'}) == (206, "cde", "bytes 2-4/10")
        assert await part("bytes=2-4", **{"If-Range": '"other"'}) == (200, TEXT, None)
        assert await part("bytes=2-4", **{"If-Range": f'W/"{asset.sha256}"'}) == (200, TEXT, None)


async def test_what_is_known_is_not_sent_again(site: Site):
    asset = await kept(site, TEXT.encode(), "text/plain")
    async with site.http() as http:
        for condition, status in ((f'"{asset.sha256}"', 304), (f'W/"{asset.sha256}"', 304), ("*", 304), ('"no"', 200)):
            answer = await http.get(f"/assets/{asset.asset_id}", headers={"If-None-Match": condition})
            assert answer.status_code == status
            assert answer.headers["etag"] == f'"{asset.sha256}"'
            assert (answer.content == b"") is (status == 304)


async def test_a_large_asset_comes_piece_by_piece_and_exactly(site: Site):
    data = bytes(range(256)) * (PIECE // 100)
    asset = await kept(site, data, "audio/pcm", pcm=Pcm(24_000, 2))
    async with site.http() as http:
        answer = await http.get(f"/assets/{asset.asset_id}")
        assert answer.content == data
        assert answer.headers["content-type"] == "audio/pcm; rate=24000; channels=2"
        edge = await http.get(f"/assets/{asset.asset_id}", headers={"Range": f"bytes={PIECE - 1}-{PIECE}"})
        assert edge.content == data[PIECE - 1 : PIECE + 1]


@pytest.mark.parametrize(
    ("data", "name", "media_type", "place"),
    [
        (SVG, "x.svg", "text/plain; charset=utf-8", "attachment"),
        (b"<html><script>alert(1)</script></html>", "x.txt", "text/plain; charset=utf-8", "attachment"),
        (b"a,b\n1,2\n", "x.csv", "text/csv; charset=utf-8", "attachment"),
        (png(), "x.png", "image/png", "inline"),
    ],
)  # fmt: skip
async def test_nothing_is_announced_as_what_a_browser_would_run(
    site: Site, data: bytes, name: str, media_type: str, place: str
):
    asset = await kept(site, data, name=name)
    async with site.http() as http:
        answer = await http.get(f"/assets/{asset.asset_id}")
        assert answer.content == data
        assert answer.headers["content-type"] == media_type
        assert answer.headers["content-disposition"].startswith(f"{place}; ")
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize(
    "name",
    ['quo"te.png', "semi;colon.png", "späß 猫.png", "line\r\nSet-Cookie: a=b.png", "100%41.png", "\u202egnp.exe"],
)
async def test_a_name_stays_a_name(site: Site, name: str):
    asset = await kept(site, png(), name=name)
    async with site.http() as http:
        answer = await http.get(f"/assets/{asset.asset_id}")
    assert "set-cookie" not in answer.headers
    told = answer.headers["content-disposition"]
    assert told.isascii()
    assert told.count('"') == 2
    assert told.endswith(".png")


@pytest.mark.parametrize("damage", [b"abcdefghiJ", b"abc", None])
async def test_a_damaged_asset_is_never_served_not_even_in_part(site: Site, state_root: Path, damage: bytes | None):
    asset = await kept(site, TEXT.encode(), "text/plain")
    blob = state_root / "assets" / "blobs" / asset.sha256[:2] / asset.sha256
    blob.unlink()
    if damage is not None:
        blob.write_bytes(damage)
    async with site.http() as http:
        for headers in ({}, {"Range": "bytes=0-2"}):
            answer = await http.get(f"/assets/{asset.asset_id}", headers=headers)
            assert answer.status_code == 500
            assert answer.json()["error"]["code"] == "data_loss"
            assert TEXT[:3] not in answer.text


async def test_a_foreign_asset_looks_like_one_that_never_was(site: Site):
    token, mine = await site.tokens.create("mine", "read")
    secret = (await site.tokens.create("yours", "admin"))[1].reveal()
    asset = await site.daemon.parts.assets.keep(Media(b"mine", "text/plain"), owner=token.token_id)
    async with site.http(mine.reveal()) as http:
        assert (await http.get(f"/assets/{asset.asset_id}")).content == b"mine"
    async with site.http(secret) as http:
        foreign = await http.get(f"/assets/{asset.asset_id}")
        unknown = await http.get("/assets/asset-" + "a" * 26)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.json() == unknown.json()
        assert (await http.get("/assets/..%2f..%2fkheish.db")).status_code == 404
    async with site.http() as http:
        assert (await http.get(f"/assets/{asset.asset_id}")).status_code == 401


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ERAS)
async def test_a_result_carries_a_url_that_anybody_can_follow_and_nobody_can_turn(
    state_root: Path, workspace: Path, emulator: OpenRouterEmulator, transport: str, mode: str
):
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
    async with opened_site(env, workspace) as site:
        # Open to this machine is no sign of being on it: a tunnel or a proxy may stand between.
        async with site.client(transport, mode) as anybody:
            [bare] = (await call(anybody, "generate_image", prompt="a pier"))["assets"]
            assert "path" not in bare
        secret = (await site.tokens.create("mine", "generate"))[1].reveal()
        async with site.client(transport, mode, secret) as client:
            made = await call(client, "generate_image", prompt="a lighthouse")
            other = await call(client, "store_asset", source="data:text/plain,hello")
            again = await call(client, "get_job", job_id=made["job_id"])
            shown = await call(client, "emit_output", artifact_ids=[other["asset_id"]])
        [asset] = made["assets"]
        assert "path" not in asset
        [late] = again["result"]["assets"]
        assert urlsplit(late["url"]).path == urlsplit(asset["url"]).path == f"/assets/{asset['asset_id']}"
        assert shown["artifacts"][0]["url"].startswith(f"{site.base}/assets/{other['asset_id']}?")
        async with site.http() as http:
            answer = await http.get(asset["url"])
            assert answer.status_code == 200
            assert len(answer.content) == asset["byte_length"]
            query = parse_qs(urlsplit(asset["url"]).query)
            for name in query:
                turned = {key: value[0] for key, value in query.items()} | {name: "1" + query[name][0]}
                assert (await http.get(f"/assets/{asset['asset_id']}", params=turned)).status_code == 401
            moved = asset["url"].replace(asset["asset_id"], other["asset_id"])
            assert (await http.get(moved)).status_code == 401


async def test_a_path_from_another_machine_is_answered_with_how_to_send_the_file(site: Site):
    secret = (await site.tokens.create("mine", "generate"))[1].reveal()
    async with site.client(token=secret) as client:
        for path in ("cat.png", "/home/me/cat.png", "C:\\cat.png", "file:///cat.png"):
            answer = await client.call_tool("store_asset", {"source": path})
            hint = str(answer.content[0])
            assert answer.is_error
            assert 'curl -F file=@FILE -H \\"Authorization: Bearer $TOKEN\\"' in hint or "curl -F file=@FILE -H" in hint
            assert f"{site.base}/assets" in hint
        for other in ("asset-" + "a" * 26, "data:text/plain", "https://127.0.0.1/x"):
            answer = await client.call_tool("store_asset", {"source": other})
            assert answer.is_error
            assert "curl" not in str(answer.content[0])


async def test_a_picture_read_as_a_resource_and_by_url_are_the_same_bytes(site: Site):
    asset = await kept(site, png(300, 200), name="a.png")
    async with site.client() as client, site.http() as http:
        read = await client.read_resource(asset.uri)
        by_url = await http.get(f"/assets/{asset.asset_id}")
    assert base64.b64decode(read.contents[0].blob) == by_url.content  # type: ignore[union-attr]
