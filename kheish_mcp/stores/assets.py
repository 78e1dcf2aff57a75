"""Immutable blobs and the records that name them.

The crash story: a blob is on disk before its record, and a record is gone before its blob. So a kill between the two
leaves bytes that nothing names, which `gc` removes once they are an hour old, and never a record without bytes.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import anyio
import anyio.to_thread

from ..errors import DataLoss, InvalidArgument, Json, JsonObject, MediaRejected, NotFound, ResourceExhausted
from ..formats import recognise
from ..media import Facts, Media
from ..settings import MAX_BYTES, MAX_PIXELS
from .arrival import Arrival
from .asset import LIVE, asset_of, insert_or_find, new_row
from .asset import Asset as Asset
from .blobs import Blobs
from .database import LOCK, Database
from .disk import locked, make_folder, refusing, sync_folder, write_new

if TYPE_CHECKING:
    from apsw import Connection

MICROPHONE: Final = frozenset({"audio/wav", "audio/webm"})
CURSOR: Final = "after-"


class AssetStore:
    """The assets of one state root: exact bytes, equal bytes once per owner, integrity on every read.

    Below the state root: `assets/blobs/ab/<sha256>`, `assets/files/<asset_id>/<file_name>` for what `path_of` lends out
    (another name of the same bytes), and `quarantine/` for what is never served.
    """

    def __init__(
        self, state_root: Path, database: Database, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
    ) -> None:
        self._database = database
        self._blobs = Blobs(state_root / "assets" / "blobs")
        self._lent = state_root / "assets" / "files"
        self._quarantine = state_root / "quarantine"
        self._lock = state_root / LOCK
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._recognising = anyio.Lock()

    @property
    def max_bytes(self) -> int:
        """How many bytes an asset may have."""
        return self._max_bytes

    async def keep(
        self,
        media: Media,
        *,
        owner: str,
        label: str = "",
        kind: str = "file",
        provenance: Mapping[str, Json] | None = None,
    ) -> Asset:
        """The asset of these bytes, new or the one that is already there; a deleted one does not come back.

        MediaRejected where declared type and bytes disagree, the type is not taken, or `kind` does not take it;
        ResourceExhausted over the limits. A cancelled caller does not stop it half way.
        """
        self._check_size(len(media.data))
        row = partial(new_row, owner=owner, label=label, kind=kind, provenance=provenance or {})
        return await self._kept(media, partial(self._blobs.keep, media.data), row, kind)

    @asynccontextmanager
    async def arriving(self) -> AsyncGenerator[Arrival]:
        """A place for bytes that come piece by piece, gone when the block ends; `keep_arrival` makes an asset of them."""
        arrival = await anyio.to_thread.run_sync(self._blobs.arrival, self._max_bytes)
        try:
            yield arrival
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(arrival.close)

    async def keep_arrival(self, arrival: Arrival, media_type: str, name: str, *, owner: str) -> Asset:
        """As `keep`, for bytes that have arrived; they are recognised one asset at a time, so that memory is bounded."""
        row = partial(new_row, owner=owner, label="", kind="file", provenance={"source": "upload"})
        async with self._recognising:
            media = Media(await anyio.to_thread.run_sync(arrival.path.read_bytes), media_type, name)
            return await self._kept(media, partial(self._blobs.adopt, arrival), row, "file")

    async def _kept(
        self, media: Media, put: Callable[[], str], record: Callable[[Media, Facts, str], Asset], kind: str
    ) -> Asset:
        """Recognises the bytes, has `put` bring them to disk, then inserts the record, all of it or nothing."""
        with anyio.CancelScope(shield=True):
            facts = await anyio.to_thread.run_sync(recognise, media)
            self._check(facts, kind)
            row = record(media, facts, await anyio.to_thread.run_sync(put))

            def insert(connection: Connection) -> Asset:
                # A deletion elsewhere may have taken the blob since; it cannot while this transaction runs.
                if not self._blobs.path(row.sha256).exists():
                    put()
                return insert_or_find(connection, row)

            kept = await self._database.write(insert)
        return kept  # noqa: RET504 - to a type checker a scope may swallow what happens in it

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            most = f"At most {self._max_bytes:,} bytes."
            raise ResourceExhausted(f"{size:,} bytes are more than an asset may have.", hint=most)

    def _check(self, facts: Facts, kind: str) -> None:
        if kind == "microphone_segment" and facts.media_type not in MICROPHONE:
            raise MediaRejected(
                f"A microphone_segment is audio/wav or audio/webm, and this is {facts.media_type}.",
                hint="Leave kind out to store it as a file.",
            )
        if (facts.width or 0) * (facts.height or 0) > self._max_pixels:
            raise ResourceExhausted(
                f"{facts.width} x {facts.height} pixels are more than a picture may have.",
                hint=f"At most {self._max_pixels:,} pixels.",
            )

    async def get(self, asset_id: str, owner: str) -> Asset:
        """An asset by its id; NotFound for an unknown and for a foreign one alike."""
        found = await self._database.rows(f"{LIVE} AND asset_id = ? AND owner = ?", asset_id, owner)
        if not found:
            raise NotFound(
                "There is no such asset.",
                hint="Take the asset_id of an earlier result, or of `kheish-daemon assets list`.",
            )
        return asset_of(found[0])

    async def read(self, asset: Asset) -> Media:
        """The bytes, checked against length and digest; DataLoss names the asset."""
        with _naming(asset):
            data = await anyio.to_thread.run_sync(self._blobs.read, asset.sha256, asset.byte_length)
        return Media(data, asset.media_type, asset.file_name, asset.pcm)

    async def open(self, asset: Asset) -> BinaryIO:
        """The bytes as a file that was just checked, and is the caller's to close; the refusals of `read`."""
        with _naming(asset):
            return await anyio.to_thread.run_sync(self._blobs.open, asset.sha256, asset.byte_length)

    async def path_of(self, asset: Asset) -> Path:
        """A read-only file of the asset's own name, for programs on this machine; the refusals of `read`."""
        await self.read(asset)
        path = self._lent / asset.asset_id / asset.file_name
        await anyio.to_thread.run_sync(self._blobs.lend, asset.sha256, path)
        return path

    async def page(self, owner: str, cursor: str | None, limit: int = 100) -> tuple[tuple[Asset, ...], str | None]:
        """Assets, newest first, and the cursor of the next page; InvalidArgument for a cursor that is not ours.

        What is stored or deleted between two pages neither repeats nor hides another asset.
        """

        def work(connection: Connection) -> list[tuple[Any, ...]]:
            before = _place_of(connection, owner, cursor) if cursor is not None else 1 << 62
            query = f"{LIVE} AND owner = ? AND number < ? ORDER BY number DESC LIMIT ?"
            return list(connection.execute(query, (owner, before, limit + 1)))

        found = [asset_of(row) for row in await self._database.read(work)]
        shown = tuple(found[:limit])
        return shown, shown[-1].asset_id.replace("asset-", CURSOR) if len(found) > limit else None

    async def newest(self) -> int:
        """A number that changes whenever an asset comes or goes, whichever process did it."""
        query = (
            "SELECT (SELECT ifnull(max(number), 0) FROM asset)"
            " + (SELECT count(*) FROM asset WHERE deleted_at IS NOT NULL)"
        )
        [(number,)] = await self._database.rows(query)
        return int(number)

    async def lists(self) -> dict[str, tuple[int, int]]:
        """By owner, two numbers that change whenever the owner's list does."""
        query = "SELECT owner, max(number), count(*) FROM asset WHERE deleted_at IS NULL GROUP BY owner"
        return {str(owner): (int(last), int(count)) for owner, last, count in await self._database.rows(query)}

    async def delete(self, asset_id: str, owner: str) -> None:
        """Takes an asset away for good: its record first, then its bytes unless another asset shares them."""
        asset = await self.get(asset_id, owner)
        query = "UPDATE asset SET deleted_at = ?, text = NULL WHERE asset_id = ? AND deleted_at IS NULL"
        with anyio.CancelScope(shield=True):
            await self._database.change(query, time.time(), asset_id)
            await self._orphans((self._lent / asset_id, self._blobs.path(asset.sha256)), execute=True)

    async def gc(self, *, execute: bool) -> tuple[str, ...]:
        """The names of blobs and temporary files that nothing refers to and that are older than an hour.

        With `execute` they are removed. Unavailable while another process is at it.
        """

        def found() -> list[Path]:
            lent = self._lent.iterdir() if self._lent.is_dir() else ()
            return [*self._blobs.stale(), *lent]

        with locked(self._lock, wait=False):
            return await self._orphans(await anyio.to_thread.run_sync(found), execute=execute)

    async def verify(self) -> tuple[int, tuple[str, ...]]:
        """Reads every asset: how many there are, and the ids of the damaged ones."""
        damaged = []
        assets = [asset_of(row) for row in await self._database.rows(LIVE)]
        for asset in assets:
            try:
                await self.read(asset)
            except DataLoss:
                damaged.append(asset.asset_id)
        return len(assets), tuple(damaged)

    async def set_text(self, asset: Asset, text: str) -> None:
        """The asset's canonical text: a sound's words, a document's content."""
        await self._database.change(
            "UPDATE asset SET text = ? WHERE asset_id = ? AND deleted_at IS NULL", text, asset.asset_id
        )

    async def text(self, asset: Asset) -> str | None:
        """The canonical text, if it has one."""
        found = await self._database.rows("SELECT text FROM asset WHERE asset_id = ?", asset.asset_id)
        return None if not found or found[0][0] is None else str(found[0][0])

    async def set_aside(self, data: bytes, reason: str) -> str:
        """Keeps bytes that were paid for and cannot be used, with a note why; gives their name in `quarantine/`."""
        name = f"{secrets.token_hex(8)}.bin"
        note: JsonObject = {"reason": reason, "byte_length": len(data), "created_at": time.time()}

        def write() -> None:
            with refusing():
                make_folder(self._quarantine)
                write_new(self._quarantine / name, data)
                write_new(self._quarantine / f"{name}.json", json.dumps(note).encode())
                sync_folder(self._quarantine)

        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(write)
        return name

    async def _orphans(self, paths: Iterable[Path], *, execute: bool) -> tuple[str, ...]:
        """The names of those files that no record refers to; gone, if `execute`, when this returns."""

        def work(connection: Connection) -> tuple[str, ...]:
            orphans = [path for path in paths if not _is_named(connection, path.name)]
            for path in orphans if execute else ():
                # In the transaction: whoever stores equal bytes waits for its end, and then writes the blob anew.
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            return tuple(path.name for path in orphans)

        return await (self._database.write if execute else self._database.read)(work)


@contextmanager
def _naming(asset: Asset) -> Generator[None]:
    """A loss inside says which asset it is."""
    try:
        yield
    except DataLoss as loss:
        raise DataLoss(
            f"{asset.uri} is damaged: {loss.message}",
            hint="`kheish-daemon assets verify` lists every damaged asset.",
            details={"uri": asset.uri},
        ) from None


def _is_named(connection: Connection, name: str) -> bool:
    """Whether a live record has this digest or this id."""
    query = "SELECT 1 FROM asset WHERE deleted_at IS NULL AND (sha256 = ? OR asset_id = ?)"
    return bool(list(connection.execute(query, (name, name))))


def _place_of(connection: Connection, owner: str, cursor: str) -> int:
    """The number of the asset that a cursor stands for, which may have been deleted since."""
    query = "SELECT number FROM asset WHERE asset_id = ? AND owner = ?"
    found = list(connection.execute(query, (f"asset-{cursor.removeprefix(CURSOR)}", owner)))
    if not found or not cursor.startswith(CURSOR):
        raise InvalidArgument("Unknown cursor.", hint="Take nextCursor from the page before.")
    return int(found[0][0])
