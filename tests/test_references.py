"""A reference is one of five kinds; what it brings is known by its bytes, and becomes an asset or a refusal."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import httpcore2
import pytest

from kheish_mcp.errors import (
    FailedPrecondition,
    InvalidArgument,
    KheishError,
    MediaRejected,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from kheish_mcp.media import Kind
from kheish_mcp.sources.inline import read_data_uri
from kheish_mcp.sources.references import References
from kheish_mcp.sources.web import Web
from kheish_mcp.sources.workspace import Workspace
from kheish_mcp.stores.assets import Asset, AssetStore
from kheish_mcp.stores.database import Database
from tests.test_web import FILES, Authority, Internet, http, standing

pytestmark = pytest.mark.anyio
OWNER = "local"
KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"


def png(width: int = 2, height: int = 3) -> bytes:
    """A whole PNG of one colour."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x10\x20\x30" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def wav(seconds: float = 0.1) -> bytes:
    """A whole WAV file of silence."""
    samples = b"\0\0" * int(8000 * seconds)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Place:
    """The real store and a real workspace, with a web that finds nobody."""

    assets: AssetStore
    references: References
    root: Path

    async def resolve(self, reference: str, kinds: frozenset[Kind] | Kind | None = None, **more: str) -> Asset:
        return await self.references.resolve(reference, owner=OWNER, kinds=kinds, **more)

    async def count(self) -> int:
        listed, _ = await self.assets.page(OWNER, None)
        return len(listed)


async def nowhere(host: str) -> list[str]:
    return ["93.184.215.14"]


async def unreachable(address: str, port: int) -> httpcore2.AsyncNetworkStream:
    raise ConnectionRefusedError


@pytest.fixture
async def place(tmp_path: Path) -> AsyncGenerator[Place]:
    root = tmp_path / "root"
    root.mkdir()
    async with Database.open(tmp_path / "state") as database:
        assets = AssetStore(tmp_path / "state", database)
        web = Web(resolver=nowhere, dial=unreachable)
        yield Place(assets, References(assets, Workspace(root), web, max_bytes=10_000), root)


async def test_a_path_becomes_an_asset(place: Place):
    (place.root / "cat.png").write_bytes(png())
    asset = await place.resolve("cat.png", Kind.IMAGE, label="the cat")
    assert (asset.media_type, asset.width, asset.height) == ("image/png", 2, 3)
    assert (await place.assets.read(asset)).data == png()


@pytest.mark.parametrize("spelling", ["{id}", "asset://{id}"])
async def test_an_asset_is_itself(place: Place, spelling: str):
    kept = await place.resolve(data_uri(png()))
    assert await place.resolve(spelling.format(id=kept.asset_id), Kind.IMAGE) == kept
    assert await place.count() == 1


@pytest.mark.parametrize("spelling", ["{id}", "asset://{id}"])
async def test_another_owners_asset_is_not_there(place: Place, spelling: str):
    kept = await place.resolve(data_uri(png()))
    for owner in ("somebody-else", ""):
        with pytest.raises(NotFound) as caught:
            await place.references.resolve(spelling.format(id=kept.asset_id), owner=owner, kinds=None)
        assert caught.value.message.startswith("source: ")


@pytest.mark.parametrize(
    "spelling",
    [
        "asset://{id}/text",
        "asset://{id}/",
        "asset://{id}?x=1",
        "asset://{id}#f",
        "asset:{id}",
        "asset:/{id}",
        "ASSET://{id}",
        "asset://asset://{id}",
        "asset://",
        "asset-",
        "asset-0000",
        "asset-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "{id}0",
        "asset-11111111111111111111111111",
    ],
)
async def test_what_is_nearly_an_asset_is_refused(place: Place, spelling: str):
    kept = await place.resolve(data_uri(png()))
    with pytest.raises(InvalidArgument, match="id of an asset") as caught:
        await place.resolve(spelling.format(id=kept.asset_id), argument="audio")
    assert caught.value.message.startswith("audio: ")


@pytest.mark.parametrize(
    "reference",
    [
        "http://example.com/cat.png",
        "HTTP://example.com/cat.png",
        "file:///etc/passwd",
        "ftp://example.com/cat.png",
        "gopher://127.0.0.1/",
        "javascript:alert(1)",
        "blob:https://example.com/1",
        "kheish://runtime",
        "C:\\cat.png",
        "C:/cat.png",
        "c:cat.png",
        "s3://bucket/cat.png",
        "",
        "  ",
        "\n",
        "cat.png\n",
        "cat\x00.png",
        "\x1b[2Jcat.png",
        "cat\ud800.png",
        "a" * 4097,
        "https://example.com/" + "a" * 4096,
        "https://example.com/\r\nHost: evil",
    ],
)
async def test_anything_else_is_refused_with_the_argument_and_the_five_kinds(place: Place, reference: str):
    with pytest.raises(InvalidArgument) as caught:
        await place.resolve(reference, argument="image_asset_ids")
    assert caught.value.message.startswith("image_asset_ids: ")
    for word in ("asset-", "asset://", "https://", "data:", "workspace"):
        assert word in (caught.value.hint or "")
    assert await place.count() == 0


async def test_a_secret_called_a_picture_is_no_picture(place: Place):
    (place.root / "id_rsa.png").write_bytes(KEY)
    for kinds in (Kind.IMAGE, Kind.AUDIO, frozenset({Kind.IMAGE, Kind.AUDIO})):
        with pytest.raises(MediaRejected) as caught:
            await place.resolve("id_rsa.png", kinds, argument="mask")
        assert caught.value.message.startswith("mask: ")
        assert "PRIVATE" not in str(caught.value.as_json())
    assert await place.count() == 0


async def test_the_bytes_decide_the_kind_and_not_the_name(place: Place):
    (place.root / "sound.png").write_bytes(wav())
    assert (await place.resolve("sound.png", Kind.AUDIO)).media_type == "audio/wav"
    with pytest.raises(MediaRejected, match="an image is needed"):
        await place.resolve("sound.png", Kind.IMAGE)


async def test_a_kept_asset_of_the_wrong_kind_is_refused(place: Place):
    kept = await place.resolve(data_uri(png()))
    with pytest.raises(MediaRejected, match="image/png, and sound is needed"):
        await place.resolve(kept.asset_id, Kind.AUDIO)
    assert await place.resolve(kept.asset_id, frozenset({Kind.AUDIO, Kind.IMAGE})) == kept


@pytest.mark.parametrize("noise", [b"\x00\x01\x02\x03" * 9, b"MZ\x90\x00" + b"\0" * 60, b"\x7fELF" + b"\0" * 60, b""])
async def test_bytes_that_are_nothing_we_know_are_not_kept(place: Place, noise: bytes):
    (place.root / "thing.png").write_bytes(noise)
    for kinds in (None, Kind.IMAGE):
        with pytest.raises(MediaRejected):
            await place.resolve("thing.png", kinds)
    assert await place.count() == 0


async def test_a_declared_type_must_be_the_bytes_own(place: Place):
    (place.root / "cat.png").write_bytes(png())
    assert (await place.resolve("cat.png", media_type="image/png")).media_type == "image/png"
    with pytest.raises(MediaRejected):
        await place.resolve("cat.png", media_type="image/jpeg")
    with pytest.raises(MediaRejected):
        await place.resolve(data_uri(png(), "audio/wav"))


async def test_equal_bytes_are_one_asset(place: Place):
    (place.root / "cat.png").write_bytes(png())
    assert (await place.resolve("cat.png")).asset_id == (await place.resolve(data_uri(png()))).asset_id
    assert await place.count() == 1


async def test_without_a_workspace_a_path_says_how_to_get_one(place: Place):
    references = References(place.assets, None, None)
    with pytest.raises(FailedPrecondition) as caught:
        await references.resolve("cat.png", owner=OWNER, kinds=None)
    assert "--workspace-root" in (caught.value.hint or "")
    with pytest.raises(FailedPrecondition, match="web"):
        await references.resolve("https://example.com/cat.png", owner=OWNER, kinds=None)
    assert (await references.resolve(data_uri(png()), owner=OWNER, kinds=None)).width == 2


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("../etc/passwd", PermissionDenied),
        ("/etc/passwd", PermissionDenied),
        (".env", PermissionDenied),
        ("none.png", NotFound),
        ("https://127.0.0.1/", InvalidArgument),
        ("https://user@example.com/", InvalidArgument),
        ("https://example.com/?key=TOPSECRET", Unavailable),
    ],
)
async def test_a_sources_refusal_begins_with_the_argument(place: Place, reference: str, kind: type[KheishError]):
    with pytest.raises(kind) as caught:
        await place.resolve(reference, argument="audio")
    assert caught.value.message.startswith("audio: ")
    assert caught.value.hint
    assert "TOPSECRET" not in str(caught.value.as_json())


async def test_where_it_came_from_is_written_down_without_the_url(place: Place):
    (place.root / "cat.png").write_bytes(png())
    assert (await place.resolve("cat.png")).provenance["source"] == "workspace"
    assert (await place.resolve(data_uri(png(5, 5)))).provenance["source"] == "data"


async def test_a_url_becomes_an_asset_that_remembers_the_host_alone(place: Place, tmp_path: Path):
    async with standing(Internet(Authority(tmp_path), {FILES: [["93.184.215.14"]]})) as internet:
        internet.pages["/cat.png?key=TOPSECRET"] = http("200 OK", "Content-Type: image/png", body=png())
        references = References(place.assets, None, internet.web())
        url = f"https://{FILES}/cat.png?key=TOPSECRET"
        asset = await references.resolve(url, owner=OWNER, kinds=Kind.IMAGE)
        assert (asset.media_type, asset.file_name) == ("image/png", "cat.png")
        assert asset.provenance == {"source": "web", "host": FILES}
        internet.pages["/cat.png?key=TOPSECRET"] = http("200 OK", "Content-Type: image/png", body=wav())
        with pytest.raises(MediaRejected):
            await references.resolve(url, owner=OWNER, kinds=Kind.IMAGE)


@pytest.mark.parametrize(
    ("uri", "data", "media_type"),
    [
        ("data:image/png;base64,AAEC", b"\0\1\2", "image/png"),
        ("DATA:Image/PNG;BASE64,AAEC", b"\0\1\2", "Image/PNG"),
        ("data:;charset=utf-8,x", b"x", ""),
        ("data:audio/L16;rate=24000;base64,AAEC", b"\0\1\2", "audio/L16;rate=24000"),
        ("data:;base64,AAE=", b"\0\1", ""),
        ("data:,hello%20there", b"hello there", ""),
        ("data:,a,b", b"a,b", ""),
        ("data:text/plain;charset=utf-8,%C3%A4", "ä".encode(), "text/plain;charset=utf-8"),
        ('data:text/plain;charset="utf-8";base64,aGk=', b"hi", 'text/plain;charset="utf-8"'),
        ("data:image/svg+xml,<svg xmlns='x'/>", b"<svg xmlns='x'/>", "image/svg+xml"),
        ("data:,", b"", ""),
    ],
)
def test_a_data_uri_is_read(uri: str, data: bytes, media_type: str):
    media = read_data_uri(uri, 100)
    assert (media.data, media.media_type, media.name) == (data, media_type, "")


@pytest.mark.parametrize(
    "uri",
    [
        "data:",
        "data:image/png;base64",
        "data:image/png;base64 ,AAEC",
        "data:image;base64,AAEC",
        "data:image/png/x;base64,AAEC",
        "data:image/png;;base64,AAEC",
        "data:image/png;base64;charset=x,AAEC",
        "data:image/png\n;base64,AAEC",
        f"data:text/plain;a={'b' * 300},x",
        "data:image/png;base64,AAE",
        "data:image/png;base64,AAE==",
        "data:image/png;base64,AA EC",
        "data:image/png;base64,AAEC\n",
        "data:image/png;base64,AA=EC",
        "data:image/png;base64,AAEC=",
        "data:image/png;base64,A-_C",
        "data:image/png;base64,AAE%3D",
        "data:image/png;base64,ÄÖÜß",
        "data:text/plain,100%",
        "data:text/plain,%zz",
        "data:text/plain,a#b",
        "data:text/plain,a\nb",
        "data:text/plain,ä",
        "\u017fdata:,x",
    ],
)
def test_a_loose_data_uri_is_refused(uri: str):
    with pytest.raises(InvalidArgument):
        read_data_uri(uri, 100)


@pytest.mark.parametrize("payload", [";base64," + "A" * 136, "," + "a" * 101, "," + "%41" * 101])
def test_a_data_uri_over_the_limit_is_refused_before_it_is_decoded(payload: str):
    with pytest.raises(ResourceExhausted):
        read_data_uri(f"data:text/plain{payload}", 100)


@pytest.mark.parametrize("payload", [";base64," + "QUFB" * 33 + "QQ==", "," + "a" * 100, "," + "%41" * 100])
def test_a_data_uri_of_just_the_limit_is_read(payload: str):
    assert len(read_data_uri(f"data:text/plain{payload}", 100).data) == 100


async def test_a_data_uri_may_be_longer_than_a_name(place: Place):
    assert (await place.resolve("data:text/plain," + "word%20" * 1000)).byte_length == 5000
    with pytest.raises(ResourceExhausted):
        await place.resolve("data:text/plain," + "a" * 10_001)
