"""Bytes that arrive piece by piece: kept exactly, once, within the limits, and without a trace where they are not."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kheish_mcp.errors import DataLoss, MediaRejected, ResourceExhausted
from kheish_mcp.media import Media
from kheish_mcp.stores.assets import Asset, AssetStore
from kheish_mcp.stores.blobs import STALE_S
from kheish_mcp.stores.database import Database

pytestmark = pytest.mark.anyio

ME = "me"


@asynccontextmanager
async def opened(root: Path, **limits: int) -> AsyncGenerator[AssetStore]:
    async with Database.open(root) as database:
        yield AssetStore(root, database, **limits)


async def arrived(store: AssetStore, pieces: Iterable[bytes], media_type: str = "text/plain", name: str = "") -> Asset:
    """The asset of bytes that came in these pieces."""
    async with store.arriving() as arrival:
        for piece in pieces:
            arrival.write(piece)
        return await store.keep_arrival(arrival, media_type, name, owner=ME)


def files(root: Path) -> list[str]:
    """Every file of the asset store below a state root."""
    return sorted(path.name for path in (root / "assets").rglob("*") if path.is_file())


async def test_the_bytes_that_came_are_the_bytes_kept(state_root: Path):
    async with opened(state_root) as store:
        asset = await arrived(store, [b"Hel", b"", b"lo."], name="../../greeting.txt")
        assert (asset.file_name, asset.byte_length) == ("greeting.txt", 6)
        assert asset.sha256 == hashlib.sha256(b"Hello.").hexdigest()
        assert (await store.read(asset)).data == b"Hello."
        assert asset.provenance == {"source": "upload"}
        assert files(state_root) == [asset.sha256]


async def test_equal_bytes_are_one_asset_whichever_way_they_came(state_root: Path):
    async with opened(state_root) as store:
        first = await store.keep(Media(b"Hello.", "text/plain"), owner=ME)
        assert (await arrived(store, [b"Hello", b"."])).asset_id == first.asset_id
        assert files(state_root) == [first.sha256]


async def test_what_is_too_much_is_refused_at_the_byte_that_is_too_much(state_root: Path):
    async with opened(state_root, max_bytes=6) as store:
        assert (await arrived(store, [b"Hello."])).byte_length == 6
        with pytest.raises(ResourceExhausted):
            await arrived(store, [b"Hello", b"!!"])
        assert len(files(state_root)) == 1


@pytest.mark.parametrize(
    ("media_type", "data"), [("image/png", b"Hello."), ("text/plain", b"\x89PNG\r\n\x1a\n"), ("", b"")]
)
async def test_what_is_not_what_it_should_be_leaves_nothing(state_root: Path, media_type: str, data: bytes):
    async with opened(state_root) as store:
        with pytest.raises(MediaRejected):
            await arrived(store, [data], media_type)
        assert files(state_root) == []
        assert await store.page(ME, None) == ((), None)


async def test_who_gives_up_leaves_nothing(state_root: Path):
    async with opened(state_root) as store:
        async with store.arriving() as arrival:
            arrival.write(b"Hello.")
            assert len(files(state_root)) == 1
        assert files(state_root) == []


@pytest.mark.parametrize("damage", [b"Jello.", b"Hello", b""])
async def test_what_arrives_whole_mends_what_was_damaged(state_root: Path, damage: bytes):
    async with opened(state_root) as store:
        asset = await arrived(store, [b"Hello."])
        blob = state_root / "assets" / "blobs" / asset.sha256[:2] / asset.sha256
        blob.chmod(0o600)
        blob.write_bytes(damage)
        with pytest.raises(DataLoss) as loss:
            await store.open(asset)
        assert asset.uri in loss.value.message
        assert (await arrived(store, [b"Hel", b"lo."])).asset_id == asset.asset_id
        with await store.open(asset) as file:
            assert file.read() == b"Hello."


async def test_a_blob_that_is_gone_cannot_be_opened(state_root: Path):
    async with opened(state_root) as store:
        asset = await arrived(store, [b"Hello."])
        (state_root / "assets" / "blobs" / asset.sha256[:2] / asset.sha256).unlink()
        with pytest.raises(DataLoss):
            await store.open(asset)


async def test_a_deletion_elsewhere_does_not_take_what_has_just_arrived(state_root: Path):
    async with opened(state_root) as store:
        async with store.arriving() as arrival:
            arrival.write(b"Hello.")
            first = await store.keep_arrival(arrival, "text/plain", "", owner=ME)
            await store.delete(first.asset_id, ME)
            second = await store.keep_arrival(arrival, "text/plain", "", owner=ME)
        assert (await store.read(second)).data == b"Hello."


async def test_what_a_crash_leaves_of_an_arrival_is_swept_up(state_root: Path):
    async with opened(state_root) as store, store.arriving() as arrival:
        arrival.write(b"Hello.")
        assert await store.gc(execute=True) == ()
        long_ago = arrival.path.stat().st_mtime - STALE_S - 1
        os.utime(arrival.path, (long_ago, long_ago))
        assert await store.gc(execute=True) == (arrival.path.name,)


async def test_pieces_do_not_pile_up_in_memory(state_root: Path):
    async with opened(state_root) as store, store.arriving() as arrival:
        tracemalloc.start()
        for _ in range(400):
            arrival.write(bytes(64 << 10))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert arrival.byte_length == 400 << 16
        assert peak < 1 << 20
