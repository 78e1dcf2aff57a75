"""What else an HTTP site answers: probes, the server card, wrong paths; what it does over TLS and with clients that drop."""

from __future__ import annotations

import datetime
import ipaddress
import re
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kheish_mcp.transports.card import card_of
from kheish_mcp.transports.limits import Limits
from kheish_mcp.transports.serving import OTHER_FILES, Front, allow_connections
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import wire_faults
from tests.hosts import ERAS
from tests.sites import TRANSPORTS, Site, opened_site

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(state_root: Path) -> AsyncGenerator[Site]:
    async with opened_site(environment(state_root), state_root.parent) as opened:
        yield opened


async def test_the_probes_tell_anybody_and_tell_nothing_else(site: Site, state_root: Path):
    await site.tokens.create("mine", "admin")
    async with site.http() as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]) == (200, {"storage": "ok", "routes": "ok", "serving": "ok"})
        site.app.is_leaving = True
        late = await http.get("/readyz")
        assert (late.status_code, late.json()["checks"]["serving"]) == (503, "error")
        assert late.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "routes",
    ["no toml at all", 'version = 1\n[routes.openrouter]\ndriver = "openrouter"\nauth_ref = "openrouter.none"\n'],
)
async def test_without_a_route_that_works_it_is_alive_and_not_ready(state_root: Path, tmp_path: Path, routes: str):
    (tmp_path / "routes.toml").write_text(routes)
    async with opened_site(environment(state_root), tmp_path, routes_file="routes.toml") as site, site.http() as http:
        assert (await http.get("/healthz")).status_code == 200
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["routes"]) == (503, "error")
        assert "openrouter" not in ready.text


async def test_the_card_says_where_and_how_and_no_more(site: Site):
    async with site.http() as http:
        answer = await http.get("/mcp/server-card", headers={"Origin": "http://localhost:3000"})
        assert answer.headers["content-type"] == "application/mcp-server-card+json"
        assert answer.headers["access-control-allow-origin"] == "*"
        card = answer.json()
        assert [remote["url"] for remote in card["remotes"]] == [f"{site.base}/mcp", f"{site.base}/sse"]
        assert "headers" not in card["remotes"][0]
        assert "tools" not in card
        again = await http.get("/mcp/server-card", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        await site.tokens.create("mine", "admin")
        closed = (await http.get("/mcp/server-card")).json()
        assert closed["remotes"][0]["headers"][0]["isSecret"] is True


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("media.example.com", "com.example.media/kheish-mcp"),
        ("127.0.0.1", "127.0.0.1/kheish-mcp"),
        ("::1", "--1/kheish-mcp"),
        ("localhost", "localhost/kheish-mcp"),
    ],
)
def test_a_card_s_name_has_the_form_of_names(host: str, name: str):
    card = card_of(host, "http://x", needs_token=False)
    assert card["name"] == name
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", name)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/.well-known/mcp.json", 404), ("PUT", "/assets", 405), ("POST", "/sse", 405)],
)
async def test_a_wrong_path_or_method_is_answered_with_the_right_ones(site: Site, method: str, path: str, status: int):
    async with site.http() as http:
        answer = await http.request(method, path)
    assert answer.status_code == status
    assert "/mcp" in answer.json()["error"]["hint"]
    assert ("allow" in answer.headers) is (status == 405)


async def test_a_mistake_of_ours_is_told_without_its_details(site: Site, monkeypatch: pytest.MonkeyPatch):
    async def broken(*_: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(site.daemon.parts.assets, "get", broken)
    async with site.http() as http:
        answer = await http.get("/assets/asset-" + "a" * 26)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert CANARY not in answer.text


async def test_a_message_that_is_too_large_is_refused_with_the_way_for_files(state_root: Path):
    limits = Limits(message_bytes=1000)
    async with (
        opened_site(environment(state_root), state_root.parent, limits=limits) as site,
        site.http() as http,
    ):
        answer = await http.post("/mcp", content=b" " * 1001, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert "POST /assets" in answer.json()["error"]["hint"]


async def test_a_head_of_the_stream_ends(site: Site):
    async with site.http() as http:
        with anyio.fail_after(30):
            assert (await http.head("/sse")).status_code == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ERAS)
async def test_what_a_client_has_paid_for_is_kept_when_it_drops(
    state_root: Path, workspace: Path, emulator: OpenRouterEmulator, transport: str, mode: str
):
    emulator.fail_next(wire_faults.hang(), path="/images")
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
    async with opened_site(env, workspace) as site, anyio.create_task_group() as group:

        async def ask(*, task_status: anyio.abc.TaskStatus[anyio.CancelScope]) -> None:
            with anyio.CancelScope() as scope:
                async with site.client(transport, mode) as client:
                    task_status.started(scope)
                    await client.call_tool("generate_image", {"prompt": "a lighthouse"})

        asking = await group.start(ask)
        await anyio.to_thread.run_sync(
            emulator.wait_for, lambda: any(r.path.endswith("/images") for r in emulator.requests)
        )
        asking.cancel()
        with anyio.fail_after(30):
            while not (await site.daemon.parts.assets.page("local", None))[0]:
                emulator.release()
                await anyio.lowlevel.checkpoint()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of this machine, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return tmp_path / "cert.pem", tmp_path / "key.pem"


async def test_it_speaks_tls_with_its_own_certificate(state_root: Path, certificate: tuple[Path, Path]):
    front = Front(certificate=certificate[0], key=certificate[1])
    limits = Limits(header_s=1)
    async with opened_site(environment(state_root), state_root.parent, front=front, limits=limits) as site:
        trusting = ssl.create_default_context(cafile=str(certificate[0]))
        base = site.base.replace("http:", "https:")
        async with httpx2.AsyncClient(base_url=base, verify=trusting, trust_env=False) as http:
            sent = await http.post("/assets", content=b"hello")
            assert sent.headers["location"].startswith("https://")
            assert (await http.get(sent.headers["location"])).content == b"hello"
        _, writer = await site.connection()
        reader, silent = await site.connection()
        writer.write(b"\x16\x03\x01")
        with anyio.fail_after(30):
            assert await reader.read() == b""
        silent.close()
        writer.close()


def test_connections_leave_room_for_other_files(monkeypatch: pytest.MonkeyPatch):
    limit = [(256, 1000)]
    monkeypatch.setattr("resource.getrlimit", lambda _: limit[-1])
    monkeypatch.setattr("resource.setrlimit", lambda _, both: limit.append(both))
    assert allow_connections(Limits(connections=100)).connections == 100
    assert limit[-1] == (200 + OTHER_FILES, 1000)
    assert allow_connections(Limits(connections=5000)).connections == (1000 - OTHER_FILES) // 2
