"""What a network may try: other names, other origins, half requests, haste, and too much of everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from kheish_mcp.errors import ResourceExhausted
from kheish_mcp.transports.answers import refusal_answer, status_of
from kheish_mcp.transports.connections import Connection
from kheish_mcp.transports.gate import REMEMBERED, Pace
from kheish_mcp.transports.guards import Names
from kheish_mcp.transports.limits import Limits
from kheish_mcp.transports.serving import Front
from tests.conftest import environment
from tests.sites import Site, opened_site

pytestmark = pytest.mark.anyio

QUICK = Limits(header_s=0.4, body_idle_s=0.3, message_s=0.5, upload_s=0.5, stall_s=0.4, keep_alive_s=3600)
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@asynccontextmanager
async def site_with(root: Path, limits: Limits | None = None, **more: Any) -> AsyncGenerator[Site]:
    """A site without any route but the local one."""
    async with opened_site(environment(root), root.parent, limits=limits, **more) as site:
        yield site


@pytest.fixture
async def site(state_root: Path) -> AsyncGenerator[Site]:
    async with site_with(state_root, names=("kheish.example",)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:4000", 200),
        ("LOCALHOST", 200),
        ("[::1]:9", 200),
        ("kheish.example:443", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:4000", 421),
        ("evil.example:80@127.0.0.1", 421),
        ("10.0.0.7", 421),
        ("", 421),
    ],
)
async def test_only_our_own_names_are_answered(site: Site, host: str, status: int):
    async with site.http() as http:
        for path in ("/healthz", "/mcp", "/sse", "/nowhere"):
            if status == 421 or path == "/healthz":
                answer = await http.get(path, headers={"Host": host})
                assert answer.status_code == status, path
                assert host not in answer.text or status == 200 or not host


@pytest.mark.parametrize("head", [b"", b"Host: 127.0.0.1\r\nHost: evil.example\r\n"])
async def test_a_request_has_one_host(site: Site, head: bytes):
    answer = await spoken(site, b"GET /healthz HTTP/1.1\r\n" + head + b"\r\n")
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 421"))


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:5173", 200),
        ("http://127.0.0.1:4000", 200),
        ("https://kheish.example", 200),
        ("http://evil.example", 403),
        ("https://kheish.example.evil.example", 403),
        ("null", 403),
        ("file://", 403),
        ("http://localhost@evil.example", 403),
        ("http://[", 403),
    ],
)
async def test_only_pages_of_our_own_names_may_ask(site: Site, origin: str, status: int):
    async with site.http() as http:
        assert (await http.get("/healthz", headers={"Origin": origin})).status_code == status


def test_the_address_that_a_connection_came_to_is_a_name():
    scope = {"server": ("192.168.1.5", 4000)}
    assert Names(()).has("192.168.1.5:4000", scope)
    assert not Names(()).has("192.168.1.6:4000", scope)
    assert Names(()).has("[fe80::1]:4000", {"server": ("fe80::1", 4000)})
    assert Names(("fe80::2",)).has("[fe80::2]", {})
    assert Names(("Media.Example:443", "[fe80::2]:4000")).has("media.example", {})
    assert not Names(("media.example:443",)).has("443", {})


async def test_forwarded_headers_count_only_from_a_named_proxy(state_root: Path):
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    headers = {**HEADERS, "X-Forwarded-For": "203.0.113.9"}
    limits = Limits(failures_at_once=1, failures_per_s=0.001)
    for trusted, second in (((), 429), (("127.0.0.1",), 401)):
        async with site_with(state_root, limits, front=Front(trusted=trusted)) as site, site.http() as http:
            if not await site.tokens.any():
                await site.tokens.create("one", "read")
            assert (await http.post("/mcp", json=body, headers=headers)).status_code == 401
            other = {**headers, "X-Forwarded-For": "203.0.113.10"}
            assert (await http.post("/mcp", json=body, headers=other)).status_code == second


async def test_half_a_head_is_cut_off_and_so_is_silence(state_root: Path):
    async with site_with(state_root, QUICK) as site:
        for begun in (b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "):
            reader, writer = await site.connection()
            writer.write(begun)
            with anyio.fail_after(30):
                assert await reader.read() == b""
            writer.close()


async def test_a_head_that_comes_in_drops_is_cut_off_all_the_same(state_root: Path):
    async with site_with(state_root, QUICK) as site:
        reader, writer = await site.connection()
        writer.write(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        cut = asyncio.ensure_future(reader.read())
        with anyio.fail_after(30):
            while not cut.done():
                writer.write(b"x")
                await asyncio.wait([cut], timeout=0.02)
        # A drop that nobody has read yet makes the end a reset.
        assert isinstance(cut.exception(), ConnectionResetError) or cut.result() == b""
        writer.close()


async def test_the_second_request_of_a_connection_has_no_more_time_than_the_first(state_root: Path):
    async with site_with(state_root, QUICK) as site:
        reader, writer = await site.connection()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert await reader.readuntil(b"{") != b""
        writer.write(b"GET /hea")
        with anyio.fail_after(30):
            await reader.read()
        writer.close()


@pytest.mark.parametrize("path", ["/mcp", "/messages/?session_id=" + "0" * 32])
async def test_a_body_that_stops_or_trickles_is_cut_off(state_root: Path, path: str):
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    async with site_with(state_root, QUICK) as site:
        assert (await spoken(site, head.encode() + b"{")).startswith(b"HTTP/1.1 408")
        reader, writer = await site.connection()
        writer.write(head.encode())
        cut = asyncio.ensure_future(reader.read())
        with anyio.fail_after(30):
            while not cut.done():
                writer.write(b" ")
                await asyncio.wait([cut], timeout=0.02)
        assert cut.result().startswith(b"HTTP/1.1 408")
        writer.close()


async def test_a_stream_that_nobody_reads_is_cut_off(state_root: Path):
    async with site_with(state_root, QUICK) as site:
        reader, writer = await site.connection()
        writer.write(b"GET /sse HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"session_id=")
        [serving] = [each for each in connections(site) if each.cycle is not None]
        with anyio.fail_after(30):
            while not serving.transport.is_closing():
                if not serving.flow.write_paused:
                    serving.transport.write(bytes(1 << 20))
                await anyio.sleep(0.02)
        writer.close()


async def test_a_client_that_reads_again_in_time_is_kept(state_root: Path):
    async with site_with(state_root, QUICK) as site:
        reader, writer = await site.connection()
        writer.write(b"GET /sse HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"session_id=")
        [serving] = [each for each in connections(site) if each.cycle is not None]
        for _ in range(6):
            serving.transport.write(bytes(4 << 20))
            await reader.readexactly(4 << 20)
        assert not serving.transport.is_closing()
        writer.close()


async def test_there_are_only_so_many_connections(state_root: Path):
    async with site_with(state_root, Limits(connections=2)) as site:
        first, second = await site.connection(), await site.connection()
        with anyio.fail_after(30):
            while len(connections(site)) < 2:
                await anyio.lowlevel.checkpoint()
        assert (await spoken(site, b"")).startswith(b"HTTP/1.1 503")
        first[1].close()
        with anyio.fail_after(30):
            while len(connections(site)) > 1:
                await anyio.lowlevel.checkpoint()
        async with site.http() as http:
            assert (await http.get("/healthz")).status_code == 200
        second[1].close()


async def test_a_large_message_is_refused_before_it_is_read(state_root: Path):
    async with site_with(state_root, Limits(message_bytes=1000)) as site:
        head = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        assert (await spoken(site, head + b"Content-Length: 5000000000\r\n\r\n")).startswith(b"HTTP/1.1 413")
        lying = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + bytes(0x400) + b"\r\n"
        assert (await spoken(site, lying)).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("values", [b"[],", b"{},", b'"a":1,'])
async def test_a_message_of_countless_values_is_refused_before_it_is_parsed(site: Site, values: bytes):
    async with site.http() as http:
        refused = await http.post("/mcp", headers=HEADERS, content=b"[" + values * 600_000 + b"1]")
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "resource_exhausted")
        large = b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * (4 << 20) + b'"}'
        assert (await http.post("/mcp", headers=HEADERS, content=large)).status_code == 400


async def test_who_asks_too_often_waits(state_root: Path):
    async with site_with(state_root, Limits(calls_at_once=2, calls_per_s=0.01)) as site, site.http() as http:
        statuses = [(await http.post("/mcp", json={}, headers=HEADERS)).status_code for _ in range(2)]
        assert statuses == [400, 400]
        late = await http.post("/mcp", json={}, headers=HEADERS)
        assert late.status_code == 429
        assert 50 < int(late.headers["retry-after"]) <= 100
        assert late.json()["error"]["retryable"] is True
        assert (await http.get("/healthz")).status_code == 200


async def test_one_principal_s_haste_is_not_another_s(state_root: Path):
    async with site_with(state_root, Limits(calls_at_once=1, calls_per_s=0.001)) as site:
        for name, status in (("one", 400), ("one", 429), ("two", 400)):
            if name not in [token.name for token in await site.tokens.list()]:
                secret = (await site.tokens.create(name, "read"))[1].reveal()
            async with site.http(secret) as http:
                assert (await http.post("/mcp", json={}, headers=HEADERS)).status_code == status


async def test_guessing_tokens_gets_slow(state_root: Path):
    async with site_with(state_root, Limits(failures_at_once=2, failures_per_s=0.001)) as site:
        await site.tokens.create("one", "read")
        async with site.http("kheish_wrong") as http:
            statuses = [(await http.post("/mcp", json={}, headers=HEADERS)).status_code for _ in range(3)]
        assert statuses == [401, 401, 429]


def test_a_bucket_fills_again():
    now = [0.0]
    pace = Pace(2.0, 3, now=lambda: now[0])
    assert [pace.wait_s("a", 1) for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] = 0.5
    assert pace.wait_s("a", 1) == 0
    assert pace.wait_s("a", 1) == 0.5
    assert pace.wait_s("b", 1) == 0
    now[0] = 100
    assert [pace.wait_s("a", 1) for _ in range(4)] == [0, 0, 0, 0.5]


def test_the_memory_of_buckets_is_bounded():
    pace = Pace(1.0, 1)
    for number in range(REMEMBERED + 10):
        pace.wait_s(str(number), 1)
    assert len(pace._left) == REMEMBERED


def test_only_a_refusal_that_says_when_is_too_many_requests():
    assert status_of(ResourceExhausted("Too large.")) == 413
    late = ResourceExhausted("Too often.", retry_after_s=0.2)
    assert status_of(late) == 429
    assert refusal_answer(late).headers["retry-after"] == "1"


async def spoken(site: Site, said: bytes) -> bytes:
    """What a server says to bytes, up to the end that it makes."""
    reader, writer = await site.connection()
    writer.write(said)
    with anyio.fail_after(30):
        answer = await reader.read()
    writer.close()
    return answer


def connections(site: Site) -> list[Connection]:
    """The open connections of a site, as its server sees them."""
    return [each for each in site.server._state.connections if isinstance(each, Connection)]
