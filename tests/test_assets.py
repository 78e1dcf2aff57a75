"""The asset store: exact bytes, equal bytes once, no damaged byte served, and nothing lost or half there after a crash."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import wave
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import pytest
from apsw import Connection
from PIL import Image

from kheish_mcp.errors import DataLoss, InvalidArgument, MediaRejected, NotFound, ResourceExhausted, Unavailable
from kheish_mcp.media import Media, Pcm
from kheish_mcp.stores.assets import Asset, AssetStore
from kheish_mcp.stores.database import LOCK, Database
from kheish_mcp.stores.disk import locked
from tests.children import exit_code_of, meet, together

pytestmark = pytest.mark.anyio

T = TypeVar("T")
ME, YOU = "local", "token-b"
AN_HOUR_AND_MORE = 3700


def png(width: int = 8, height: int = 6, color: str = "red") -> bytes:
    """A real PNG."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), color).save(out, "PNG")
    return out.getvalue()


def wav(seconds: float = 0.25, rate: int = 16_000) -> bytes:
    """Silence."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(bytes(2 * int(seconds * rate)))
    return out.getvalue()


def mp3(frames: int = 3) -> bytes:
    """Frames of 128 kbit/s, 44.1 kHz, stereo."""
    return (b"\xff\xfb\x90\x64" + bytes(413)) * frames


def webm() -> bytes:
    """A segment with one audio track and one cluster."""

    def element(name: int, *content: bytes) -> bytes:
        body = b"".join(content)
        return name.to_bytes((name.bit_length() + 7) // 8, "big") + bytes([0x80 | len(body)]) + body

    track = element(0x1654AE6B, element(0xAE, element(0x83, b"\x02")))
    segment = element(0x18538067, track, element(0x1F43B675, element(0xE7, b"\x00")))
    return element(0x1A45DFA3, element(0x4282, b"webm")) + segment


def text(words: str = "Hello.") -> Media:
    """A plain text."""
    return Media(words.encode(), "text/plain")


@asynccontextmanager
async def opened(root: Path, **limits: int) -> AsyncGenerator[AssetStore]:
    """The store of a state root."""
    async with Database.open(root) as database:
        yield AssetStore(root, database, **limits)


async def listed(store: AssetStore, owner: str = ME) -> list[str]:
    """All ids of an owner, newest first."""
    return [asset.asset_id for asset in (await store.page(owner, None, 1000))[0]]


def blobs(root: Path) -> list[Path]:
    """Every file of the blob folder, temporary ones too."""
    return sorted(path for path in (root / "assets" / "blobs").rglob("*") if path.is_file())


def everything(root: Path) -> list[Path]:
    """All files and folders of a root."""
    return list(root.rglob("*"))


def blob_of(root: Path, asset: Asset) -> Path:
    """Where an asset's bytes lie."""
    return root / "assets" / "blobs" / asset.sha256[:2] / asset.sha256


def damage(path: Path, how: Callable[[bytes], bytes | None]) -> None:
    """Does to a file what no program of ours would."""
    changed = how(path.read_bytes())
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)


def make_old(*paths: Path) -> None:
    """As if nobody had touched them for more than an hour."""
    for path in paths:
        os.utime(path, (time.time() - AN_HOUR_AND_MORE,) * 2)


FLIPPED = pytest.param(lambda data: data[:-1] + bytes([data[-1] ^ 1]), id="flipped")
DAMAGES = [FLIPPED, pytest.param(lambda data: data[:-1], id="cut"), pytest.param(lambda data: None, id="gone")]
ARRIVALS = [
    pytest.param(Media(wav(), "audio/x-wav", "take.wav"), "audio/wav", id="wav"),
    pytest.param(Media(mp3(), "audio/mp3", "take.mp3"), "audio/mpeg", id="mp3"),
    pytest.param(Media(webm(), "audio/webm"), "audio/webm", id="webm"),
    pytest.param(Media(struct.pack("<4h", 1, -2, 3, -4), "audio/pcm", "", Pcm(24_000, 2)), "audio/pcm", id="pcm"),
    pytest.param(Media(png(), ""), "image/png", id="png"),
    pytest.param(Media(b"\xef\xbb\xbfa,b\r\n1,2\r\n", "text/csv"), "text/csv", id="csv"),
    pytest.param(Media(b'{"a": [1, 2]}  \n', "application/json"), "application/json", id="json"),
]


@pytest.mark.parametrize(("media", "media_type"), ARRIVALS)
async def test_the_bytes_given_are_the_bytes_kept(state_root: Path, media: Media, media_type: str):
    async with opened(state_root) as store:
        kept = await store.keep(media, owner=ME)
    async with opened(state_root) as store:
        found = await store.get(kept.asset_id, ME)
        read = await store.read(found)
    assert found == kept
    assert read.data == media.data
    assert read.media_type == found.media_type == media_type
    assert read.pcm == media.pcm
    assert (found.byte_length, found.sha256) == (len(media.data), hashlib.sha256(media.data).hexdigest())


async def test_an_asset_says_of_itself_what_the_contract_lists(state_root: Path):
    async with opened(state_root) as store:
        made = await store.keep(
            Media(png(8, 6), "image/png", "../cat.jpg"), owner=ME, label="a\u202e cat", provenance={"tool": "test"}
        )
    assert made.as_json() == {
        "asset_id": made.asset_id,
        "uri": f"asset://{made.asset_id}",
        "media_type": "image/png",
        "file_name": "cat.png",
        "byte_length": made.byte_length,
        "sha256": made.sha256,
        "width": 8,
        "height": 6,
        "duration_s": None,
    }
    assert made.provenance == {"tool": "test"}
    assert made.label == "a cat"
    assert made.extension == "png"
    assert abs(time.time() - made.created_at) < 60


async def test_a_nameless_asset_is_named_after_its_kind_and_its_id(state_root: Path):
    async with opened(state_root) as store:
        picture = await store.keep(Media(png(), "image/png"), owner=ME)
        spoken = await store.keep(Media(wav(), "audio/wav"), owner=ME, kind="microphone_segment")
    assert picture.file_name == f"image-{picture.asset_id[-6:]}.png"
    assert spoken.file_name == f"microphone_segment-{spoken.asset_id[-6:]}.wav"


@pytest.mark.parametrize(
    ("media", "taken"),
    [(Media(wav(), ""), True), (Media(webm(), ""), True), (Media(mp3(), ""), False), (Media(png(), ""), False)],
    ids=["wav", "webm", "mp3", "png"],
)
async def test_a_microphone_segment_is_wav_or_webm(state_root: Path, media: Media, taken: bool):
    async with opened(state_root) as store:
        if taken:
            assert (await store.keep(media, owner=ME, kind="microphone_segment")).kind == "microphone_segment"
            return
        with pytest.raises(MediaRejected, match="audio/wav or audio/webm"):
            await store.keep(media, owner=ME, kind="microphone_segment")
        assert await listed(store) == []


@pytest.mark.parametrize(
    ("media", "limits", "refusal"),
    [
        (text("12345"), {"max_bytes": 4}, ResourceExhausted),
        (Media(png(10, 11), ""), {"max_pixels": 109}, ResourceExhausted),
        (Media(png(), "image/jpeg"), {}, MediaRejected),
        (Media(b"", "text/plain"), {}, MediaRejected),
        (Media(b"\x00\x01\x02", ""), {}, MediaRejected),
    ],
    ids=["bytes", "pixels", "declared otherwise", "empty", "nothing known"],
)
async def test_what_is_refused_leaves_nothing(
    state_root: Path, media: Media, limits: dict[str, int], refusal: type[Exception]
):
    async with opened(state_root, **limits) as store:
        with pytest.raises(refusal):
            await store.keep(media, owner=ME)
        assert await listed(store) == []
    assert blobs(state_root) == []


async def test_the_limits_themselves_are_allowed(state_root: Path):
    async with opened(state_root, max_bytes=5) as store:
        assert (await store.keep(text("12345"), owner=ME)).byte_length == 5
    async with opened(state_root, max_pixels=110) as store:
        assert (await store.keep(Media(png(10, 11), ""), owner=ME)).width == 10


async def test_equal_bytes_are_one_asset_of_one_owner_and_one_blob_of_all(state_root: Path):
    async with opened(state_root) as store:
        first = await store.keep(text(), owner=ME, label="first")
        again = await store.keep(text(), owner=ME, label="again")
        other_type = await store.keep(Media(b"Hello.", "text/markdown"), owner=ME)
        theirs = await store.keep(text(), owner=YOU)
        assert again == first
        assert len({first.asset_id, other_type.asset_id, theirs.asset_id}) == 3
        assert len(blobs(state_root)) == 1


async def test_samples_of_another_rate_are_another_sound(state_root: Path):
    async with opened(state_root) as store:
        slow, fast = [
            await store.keep(Media(bytes(480), "audio/pcm", "", Pcm(rate)), owner=ME) for rate in (16_000, 24_000)
        ]
        assert slow.asset_id != fast.asset_id
        assert (await store.read(await store.get(slow.asset_id, ME))).pcm == Pcm(16_000)
        assert (await store.read(await store.get(fast.asset_id, ME))).pcm == Pcm(24_000)


async def test_a_foreign_asset_looks_like_none(state_root: Path):
    async with opened(state_root) as store:
        mine = await store.keep(text(), owner=ME)
        with pytest.raises(NotFound) as foreign:
            await store.get(mine.asset_id, YOU)
        with pytest.raises(NotFound) as unknown:
            await store.get("asset-" + "a" * 26, YOU)
        with pytest.raises(NotFound):
            await store.delete(mine.asset_id, YOU)
        assert foreign.value.as_json() == unknown.value.as_json()
        assert await listed(store) == [mine.asset_id]


async def test_a_deleted_asset_is_gone_for_good(state_root: Path):
    async with opened(state_root) as store:
        gone = await store.keep(text(), owner=ME)
        await store.set_text(gone, "Hello.")
        path = await store.path_of(gone)
        before = await store.newest()
        await store.delete(gone.asset_id, ME)
        assert await store.newest() != before
        with pytest.raises(NotFound):
            await store.get(gone.asset_id, ME)
        with pytest.raises(NotFound):
            await store.delete(gone.asset_id, ME)
        assert await store.text(gone) is None
        assert blobs(state_root) == []
        assert not await anyio.Path(path.parent).exists()
        again = await store.keep(text(), owner=ME)
        assert again.asset_id != gone.asset_id
        assert (await store.read(again)).data == b"Hello."


async def test_bytes_that_another_asset_shares_outlast_a_deletion(state_root: Path):
    async with opened(state_root) as store:
        mine = await store.keep(text(), owner=ME)
        theirs = await store.keep(text(), owner=YOU)
        await store.delete(mine.asset_id, ME)
        assert (await store.read(theirs)).data == b"Hello."


async def test_pages_are_newest_first_and_neither_repeat_nor_skip(state_root: Path):
    async with opened(state_root) as store:
        made = [(await store.keep(text(f"text {n}"), owner=ME)).asset_id for n in range(9)]
        theirs = await store.keep(text(), owner=YOU)
        first, cursor = await store.page(ME, None, 4)
        assert [asset.asset_id for asset in first] == made[:4:-1]
        await store.keep(text("meanwhile"), owner=ME)
        await store.delete(first[-1].asset_id, ME)
        await store.delete(made[4], ME)
        second, cursor = await store.page(ME, cursor, 4)
        assert [asset.asset_id for asset in second] == made[3::-1]
        assert cursor is None
        assert (await store.page(YOU, None))[0] == (theirs,)
        exact, cursor = await store.page(YOU, None, 1)
        assert (len(exact), cursor) == (1, None)


async def test_a_cursor_from_elsewhere_is_refused(state_root: Path, tmp_path: Path):
    async with opened(state_root) as store, opened(tmp_path / "other") as other:
        for n in range(3):
            await store.keep(text(f"text {n}"), owner=ME)
        made, cursor = await store.page(ME, None, 1)
        assert cursor is not None
        for wrong in ("", "garbage", "after-", f"{cursor}x", made[0].asset_id, cursor.upper(), "\u00e9", "\x00"):
            with pytest.raises(InvalidArgument):
                await store.page(ME, wrong)
        for elsewhere, owner in ((store, YOU), (other, ME)):
            with pytest.raises(InvalidArgument):
                await elsewhere.page(owner, cursor)


@pytest.mark.parametrize("how", DAMAGES)
async def test_a_damaged_blob_is_never_served(state_root: Path, how: Callable[[bytes], bytes | None]):
    async with opened(state_root) as store:
        whole = await store.keep(text("whole"), owner=ME)
        hurt = await store.keep(Media(png(), ""), owner=ME)
        damage(blob_of(state_root, hurt), how)
        for refused in (store.read(hurt), store.path_of(hurt)):
            with pytest.raises(DataLoss, match=hurt.uri) as loss:
                await refused
            assert loss.value.details == {"uri": hurt.uri}
        assert await store.verify() == (2, (hurt.asset_id,))
        assert (await store.read(whole)).data == b"whole"


@pytest.mark.parametrize("how", DAMAGES)
async def test_the_right_bytes_mend_a_damaged_blob_and_its_lent_file(
    state_root: Path, how: Callable[[bytes], bytes | None]
):
    async with opened(state_root) as store:
        asset = await store.keep(Media(png(), ""), owner=ME)
        path = await store.path_of(asset)
        damage(blob_of(state_root, asset), how)
        damage(path, how)
        assert await store.keep(Media(png(), ""), owner=ME) == asset
        assert (await store.read(asset)).data == png()
        assert await store.path_of(asset) == path
        assert await anyio.Path(path).read_bytes() == png()
        assert await store.verify() == (1, ())


async def test_a_lent_file_has_the_asset_s_name_and_cannot_be_written(state_root: Path):
    name = "\U0001f9ff" * 150
    async with opened(state_root) as store:
        asset = await store.keep(Media(png(), "", name), owner=ME)
        path = await store.path_of(asset)
        assert path.name == asset.file_name
        assert path.suffix == ".png"
        assert path.samefile(blob_of(state_root, asset))
        assert path.stat().st_mode & 0o777 == 0o400
        assert await store.path_of(asset) == path


async def test_every_folder_and_file_is_for_its_user_alone(state_root: Path):
    async with opened(state_root) as store:
        await store.path_of(await store.keep(text(), owner=ME))
        await store.set_aside(b"\x00", "no sound")
    assert {path.stat().st_mode & 0o077 for path in [state_root, *everything(state_root)]} == {0}


async def test_the_canonical_text_belongs_to_its_asset(state_root: Path):
    async with opened(state_root) as store:
        sound = await store.keep(Media(wav(), ""), owner=ME)
        assert await store.text(sound) is None
        await store.set_text(sound, "Hello, w\u00f6rld.")
    async with opened(state_root) as store:
        assert await store.text(sound) == "Hello, w\u00f6rld."


async def test_paid_bytes_that_are_no_media_are_set_aside_with_the_reason(state_root: Path):
    async with opened(state_root) as store:
        names = {await store.set_aside(b"\x00 not media", "It is no sound.") for _ in range(2)}
        assert await listed(store) == []
        assert await store.gc(execute=True) == ()
    assert len(names) == 2
    for name in names:
        kept = anyio.Path(state_root / "quarantine" / name)
        assert await kept.read_bytes() == b"\x00 not media"
        note = json.loads(await kept.with_name(f"{name}.json").read_text())
        assert (note["reason"], note["byte_length"]) == ("It is no sound.", 11)


async def test_who_has_left_still_finds_the_bytes_kept(state_root: Path):
    async with opened(state_root) as store:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.keep(text(), owner=ME)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.set_aside(b"paid", "It is no sound.")
        assert len(await listed(store)) == 1
    assert len(list((state_root / "quarantine").glob("*.bin"))) == 1


async def test_garbage_is_what_nobody_names_and_nobody_has_touched_for_an_hour(state_root: Path):
    async with opened(state_root) as store:
        live = await store.keep(text("live"), owner=ME)
        folder = blob_of(state_root, live).parent
        old, young, temporary = (folder / name for name in ("0" * 64, "1" * 64, ".abc.tmp"))
        for path in (old, young, temporary):
            path.write_bytes(b"left by a crash")
        make_old(old, temporary, blob_of(state_root, live))
        lent_to_nobody = state_root / "assets" / "files" / ("asset-" + "b" * 26)
        lent_to_nobody.mkdir(parents=True)
        (lent_to_nobody / "cat.png").write_bytes(b"left by a crash")
        await store.path_of(live)
        names = {old.name, temporary.name, lent_to_nobody.name}
        assert set(await store.gc(execute=False)) == names
        assert old.exists()
        assert set(await store.gc(execute=True)) == names
        assert await store.gc(execute=True) == ()
        assert young.exists()
        assert (await store.read(live)).data == b"live"
        assert (await store.path_of(live)).exists()


async def test_two_sweeps_at_once_are_one_too_many(state_root: Path):
    async with opened(state_root) as store:
        with locked(state_root / LOCK, wait=False):
            with pytest.raises(Unavailable) as refusal:
                await store.gc(execute=True)
            assert refusal.value.retryable
        assert await store.gc(execute=True) == ()


def in_store(root: Path, work: Callable[[AssetStore], Awaitable[T]]) -> T:
    """What `work` gives with the store of a root, opened and closed for it."""

    async def main() -> T:
        async with opened(root) as store:
            return await work(store)

    return anyio.run(main)


def keep_together(root: Path) -> list[str]:
    """A process that keeps twenty texts while others keep the same."""

    async def work(store: AssetStore) -> list[str]:
        kept = []
        for n in range(20):
            meet()
            kept.append((await store.keep(text(f"text {n}"), owner=ME)).asset_id)
        return kept

    return in_store(root, work)


def test_processes_that_keep_the_same_bytes_at_once_make_one_blob_and_one_asset(state_root: Path):
    one, *others = together(keep_together, *[(state_root,)] * 3)
    assert all(other == one for other in others)
    assert len(blobs(state_root)) == len(set(one)) == 20
    assert sorted(in_store(state_root, listed)) == sorted(one)
    assert in_store(state_root, AssetStore.verify) == (20, ())


def keep_and_delete(root: Path, owner: str) -> None:
    """A process that keeps and deletes what others keep, delete and sweep."""

    async def work(store: AssetStore) -> None:
        for n in range(30):
            kept = await store.keep(text(), owner=owner)
            assert (await store.read(kept)).data == b"Hello."
            make_old(blob_of(root, kept))
            if n % 3:
                await store.delete(kept.asset_id, owner)
            try:
                await store.gc(execute=True)
            except Unavailable:
                continue

    in_store(root, work)


def test_a_record_never_names_bytes_that_a_deletion_elsewhere_took(state_root: Path):
    together(keep_and_delete, *[(state_root, owner) for owner in ("a", "b", "c")])
    assert in_store(state_root, AssetStore.verify) == (0, ())


class Deadly(Database):
    """A database whose process dies as soon as a record is to be written, or once it is written but not committed."""

    when = "before"

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Ends the process."""

        def deadly(connection: Connection) -> T:
            if self.when == "in":
                work(connection)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        return await super().write(deadly)


def die_keeping(root: Path, when: str) -> None:
    """A process that is killed between the blob and the record's commit."""

    async def main() -> None:
        async with Deadly.open(root) as database:
            assert isinstance(database, Deadly)
            database.when = when
            await AssetStore(root, database).keep(text("doomed"), owner=ME)

    anyio.run(main)


@pytest.mark.parametrize("when", ["before", "in"])
def test_a_kill_between_blob_and_record_leaves_no_listed_asset(state_root: Path, when: str):
    in_store(state_root, lambda store: store.keep(text("safe"), owner=ME))
    assert exit_code_of(die_keeping, state_root, when) == -signal.SIGKILL
    assert len(blobs(state_root)) == 2
    assert len(in_store(state_root, listed)) == 1
    assert in_store(state_root, AssetStore.verify) == (1, ())
    make_old(*blobs(state_root))
    swept = in_store(state_root, lambda store: store.gc(execute=True))
    assert swept == (hashlib.sha256(b"doomed").hexdigest(),)


def keep_on_a_small_disk(root: Path) -> str:
    """A process that may not write a file of more than 300 kB; gives the refusal's code."""

    async def work(store: AssetStore) -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        with pytest.raises(ResourceExhausted) as refusal:
            await store.keep(text("x" * 400_000), owner=ME)
        with pytest.raises(ResourceExhausted):
            await store.set_aside(bytes(400_000), "It is no sound.")
        return refusal.value.code.value

    return in_store(root, work)


def test_a_full_disk_leaves_no_record_and_no_rest(state_root: Path):
    in_store(state_root, lambda store: store.keep(text("safe"), owner=ME))
    assert together(keep_on_a_small_disk, (state_root,)) == ["resource_exhausted"]
    assert len(blobs(state_root)) == 1
    assert list((state_root / "quarantine").iterdir()) == []
    assert in_store(state_root, AssetStore.verify) == (1, ())


KEEP_ONE = """
import sys, anyio
from pathlib import Path
from kheish_mcp.media import Media
from kheish_mcp.stores.assets import AssetStore
from kheish_mcp.stores.database import Database

async def main():
    root = Path(sys.argv[1])
    async with Database.open(root) as database:
        await AssetStore(root, database).keep(Media(b"Hello.", "text/plain"), owner="local")

anyio.run(main)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_bytes_name_and_folders_are_synced_before_the_record(state_root: Path, tmp_path: Path):
    in_store(state_root, AssetStore.newest)
    log = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,link,linkat,unlink,unlinkat,pwrite64"
    subprocess.run(
        ["strace", "-f", "-y", "-e", calls, "-o", log, sys.executable, "-c", KEEP_ONE, state_root],
        check=True,
        timeout=60,
    )
    lines = [line.split(" ", 1)[1].strip() for line in log.read_text().splitlines() if str(state_root) in line]
    named = next(n for n, line in enumerate(lines) if line.startswith("link"))
    recorded = next(
        n for n, line in enumerate(lines) if line.startswith("pwrite64") and "kheish.db" in line and n > named
    )
    assert [line for line in lines[:named] if line.startswith("fsync") and ".tmp>" in line]
    folder = lines[named].rsplit("/", 1)[0].rsplit('"', 1)[1]
    between = "\n".join(line for line in lines[named:recorded] if line.startswith("fsync"))
    assert f"{folder}>" in between
    assert f"{folder.rsplit('/', 1)[0]}>" in between
