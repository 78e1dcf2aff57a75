"""Files sent from another machine: raw or in a form, exactly as they are, and refused at the byte that is too much."""

from __future__ import annotations

import asyncio
import io
import itertools
import re
import resource
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kheish_mcp.errors import InvalidArgument
from kheish_mcp.stores.assets import AssetStore
from kheish_mcp.transports.forms import Form
from kheish_mcp.transports.limits import Limits
from tests.conftest import environment
from tests.hosts import call
from tests.sites import Site, opened_site

pytestmark = pytest.mark.anyio

MOST = 100_000
LINE = b"\r\n"


def png(width: int = 8, height: int = 6) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
async def site(state_root: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Site]:
    async with opened_site(environment(state_root), state_root.parent) as opened:
        monkeypatch.setattr(opened.daemon.parts.assets, "_max_bytes", MOST)
        yield opened


def left(state_root: Path) -> list[str]:
    """The files of the asset store."""
    return [path.name for path in (state_root / "assets").rglob("*") if path.is_file()]


async def test_a_raw_body_becomes_an_asset_that_tools_take(site: Site):
    async with site.http() as http, site.client() as client:
        answer = await http.post("/assets?name=my%20cat.png", content=png(), headers={"Content-Type": "image/png"})
        assert answer.status_code == 201
        asset = answer.json()
        assert (asset["file_name"], asset["width"], asset["media_type"]) == ("my cat.png", 8, "image/png")
        assert answer.headers["location"] == f"{site.base}/assets/{asset['asset_id']}"
        assert (await http.get(answer.headers["location"])).content == png()
        shown = await call(client, "emit_output", artifact_ids=[asset["asset_id"]])
        assert shown["artifacts"][0]["sha256"] == asset["sha256"]
        again = await http.post("/assets", content=png(), headers={"Content-Type": "image/png"})
        assert (again.status_code, again.json()["asset_id"]) == (201, asset["asset_id"])


async def test_a_form_becomes_the_same_asset(site: Site):
    async with site.http() as http:
        raw = await http.post("/assets", content=png())
        files = {"note": (None, "not this"), "file": ("../späß.png", png(), "image/png")}
        form = await http.post("/assets", files=files)
        assert form.status_code == 201
        assert form.json()["asset_id"] == raw.json()["asset_id"]
        named = await http.post("/assets?name=other.txt", files={"file": ("späß.txt", b"hello", "text/plain")})
        assert named.json()["file_name"] == "other.txt"
        plain = await http.post("/assets", files={"file": ("späß.txt", b"goodbye", "text/plain")})
        assert plain.json()["file_name"] == "späß.txt"


async def test_the_line_of_the_hint_works_as_it_stands(site: Site, tmp_path: Path):
    (tmp_path / "FILE").write_bytes(png())
    token = (await site.tokens.create("mine", "generate"))[1].reveal()
    async with site.client(token=token) as client:
        answer = await client.call_tool("store_asset", {"source": "cat.png"})
        found = re.search(r"(curl .*?/assets)", str(answer.content[0].text).replace('\\"', '"'))  # type: ignore[union-attr]
        assert found
        env = {"TOKEN": token, "PATH": "/usr/bin:/bin"}
        command = ["/bin/sh", "-c", found[1] + " --silent --noproxy '*'"]
        done = await anyio.run_process(command, cwd=tmp_path, env=env)
        assert b'"asset_id"' in done.stdout
        raw = f'curl --silent --data-binary @FILE -H "Authorization: Bearer $TOKEN" {site.base}/assets'
        same = await anyio.run_process(["/bin/sh", "-c", raw], cwd=tmp_path, env=env)
        assert same.stdout == done.stdout


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"hello", {"Content-Type": "image/png"}, 415, "invalid_argument"),
        (b"", {"Content-Type": "image/png"}, 415, "invalid_argument"),
        (b"hello", {"Content-Encoding": "gzip"}, 400, "invalid_argument"),
        (b"hello", {"Content-Type": "multipart/form-data"}, 400, "invalid_argument"),
        (b"hello", {"Content-Type": "multipart/form-data; boundary=" + "x" * 5000}, 400, "invalid_argument"),
        (b"--b\r\n\r\n", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "invalid_argument"),
        (b"garbage", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "invalid_argument"),
    ],
)
async def test_what_cannot_be_kept_is_refused_and_leaves_nothing(
    site: Site, state_root: Path, content: bytes, headers: dict[str, str], status: int, code: str
):
    async with site.http() as http:
        answer = await http.post("/assets", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert left(state_root) == []


async def test_only_who_may_generate_may_send(site: Site, state_root: Path):
    reader = (await site.tokens.create("reader", "read"))[1].reveal()
    async with site.http(reader) as http:
        answer = await http.post("/assets", content=b"hello")
        assert answer.status_code == 403
        assert 'error="insufficient_scope", scope="generate"' in answer.headers["www-authenticate"]
    async with site.http() as http:
        assert (await http.post("/assets", content=b"hello")).status_code == 401
        assert (await http.get("/assets")).status_code == 405
    assert left(state_root) == []


async def test_what_one_sends_another_cannot_see(site: Site):
    mine, yours = [(await site.tokens.create(name, "generate"))[1].reveal() for name in ("mine", "yours")]
    async with site.http(mine) as http:
        sent = (await http.post("/assets", content=b"hello")).json()
    async with site.http(yours) as http:
        assert (await http.get(f"/assets/{sent['asset_id']}")).status_code == 404
        assert (await http.post("/assets", content=b"hello")).json()["asset_id"] != sent["asset_id"]


async def test_five_gigabytes_are_refused_before_they_are_sent(site: Site, state_root: Path):
    head = b"POST /assets HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 5000000000\r\n\r\n"
    reader, writer = await site.connection()
    writer.write(head)
    with anyio.fail_after(30):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer
    assert b"resource_exhausted" in answer
    writer.close()
    assert left(state_root) == []


@pytest.mark.parametrize("head", [b"", b"Content-Type: multipart/form-data; boundary=b\r\n"], ids=["raw", "form"])
async def test_a_body_that_says_nothing_of_its_size_is_cut_off_at_the_limit(site: Site, state_root: Path, head: bytes):
    begun = b"--b\r\nContent-Disposition: form-data; name=file; filename=x\r\n\r\n" if head else b""
    reader, writer = await site.connection()
    writer.write(b"POST /assets HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n" + head + LINE)
    writer.write(b"%x\r\n%b\r\n" % (len(begun), begun) if begun else b"")
    sent = 0
    with anyio.fail_after(30):
        answer = asyncio.ensure_future(reader.readuntil(b"}}"))
        while not answer.done():
            writer.write(b"10000\r\n" + b"x" * 0x10000 + LINE)
            sent += 0x10000
            await writer.drain()
            await anyio.lowlevel.checkpoint()
    assert answer.result().startswith(b"HTTP/1.1 413")
    assert sent < 50 << 20
    writer.close()
    assert left(state_root) == []


async def test_a_client_that_only_sends_learns_why_it_was_refused(site: Site):
    async with site.http() as http:
        answer = await http.post("/assets", content=bytes(20 << 20))
    assert answer.status_code == 413
    assert f"{MOST:,}" in answer.json()["error"]["hint"]


async def test_a_file_at_the_limit_is_kept_and_one_byte_more_is_not(site: Site):
    async with site.http() as http:
        assert (await http.post("/assets", content=b"x" * MOST)).status_code == 201
        assert (await http.post("/assets", content=b"x" * (MOST + 1))).status_code == 413
        assert (await http.post("/assets", files={"file": ("a.txt", b"y" * MOST)})).status_code == 201
        assert (await http.post("/assets", files={"file": ("a.txt", b"y" * (MOST + 1))})).status_code == 413


async def test_who_goes_away_half_way_leaves_nothing(site: Site, state_root: Path):
    _, writer = await site.connection()
    writer.write(b"POST /assets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nhello")
    with anyio.fail_after(30):
        while not left(state_root):
            await anyio.lowlevel.checkpoint()
        writer.close()
        while left(state_root):
            await anyio.lowlevel.checkpoint()


async def test_a_trickle_is_cut_off_and_leaves_nothing(state_root: Path):
    limits = Limits(body_idle_s=0.1, upload_s=0.3)
    async with opened_site(environment(state_root), state_root.parent, limits=limits) as site:
        reader, writer = await site.connection()
        writer.write(b"POST /assets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nhello")
        with anyio.fail_after(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()
    assert left(state_root) == []


async def test_a_large_file_does_not_stand_in_memory_while_it_comes(state_root: Path, monkeypatch: pytest.MonkeyPatch):
    async with opened_site(environment(state_root), state_root.parent) as site:
        peaks: list[int] = []

        async def kept(self: AssetStore, *given: Any, **more: Any) -> Any:
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            raise InvalidArgument("It was only for the way here.")

        async def body() -> AsyncIterator[bytes]:
            for _ in range(60):
                yield bytes(1 << 20)

        monkeypatch.setattr(AssetStore, "keep_arrival", kept)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with site.http() as http:
            assert (await http.post("/assets", content=body())).status_code == 400
        assert peaks[0] - before < 20 << 10


@given(
    data=st.binary(max_size=200)
    | st.lists(st.sampled_from([b"\r\n--b", b"\r", b"\n--", b"x", b"--b--"])).map(b"".join),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_a_form_gives_its_file_however_it_is_cut(data: bytes, cuts: list[int]):
    if b"\r\n--b" in LINE + data:
        return
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: image/png\r\n\r\n'
    body = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nother\r\n' + head + data + b"\r\n--b--\r\n"
    form, places = Form("multipart/form-data; boundary=b"), sorted({0, len(body), *(cut % len(body) for cut in cuts)})
    assert b"".join(form.take(body[a:b]) for a, b in itertools.pairwise(places)) == data
    form.finish()
    assert (form.name, form.media_type) == ("a", "image/png")


@given(st.binary(max_size=300))
def test_no_form_breaks_the_reader(body: bytes):
    form = Form("multipart/form-data; boundary=b")
    try:
        form.take(b"--b\r\n" + body)
        form.finish()
    except InvalidArgument:
        pass


def test_a_form_of_countless_parts_is_refused_before_they_are_read():
    with pytest.raises(InvalidArgument, match="parts"):
        Form("multipart/form-data; boundary=b").take(b"--b\r\na: 1\r\n\r\nx\r\n" * 65)


def test_a_form_with_two_files_is_refused():
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n'
    with pytest.raises(InvalidArgument):
        Form("multipart/form-data; boundary=b").take(part + part + b"--b--")
