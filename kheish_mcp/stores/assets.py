"""Immutable blobs and the records that name them.

The crash story: a blob is on disk before its record, and a record is gone before its blob. So a kill between the two
leaves bytes that nothing names, which `gc` removes once they are an hour old, and never a record without bytes.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from ..errors import DataLoss, InvalidArgument, Json, JsonObject, MediaRejected, NotFound, ResourceExhausted
from ..formats import endings_of, extension_of, recognise
from ..media import Facts, Media, Pcm
from ..names import file_name, plain
from .blobs import Blobs
from .database import LOCK, Database, new_id
from .disk import locked, make_folder, refusing, sync_folder, write_new

if TYPE_CHECKING:
    from apsw import Connection

MICROPHONE: Final = frozenset({"audio/wav", "audio/webm"})
LONGEST_LABEL: Final = 200
MAX_BYTES, MAX_PIXELS = 64 << 20, 100_000_000
CURSOR: Final = "after-"
TABLES: Final = """
    CREATE TABLE asset (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        asset_id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        media_type TEXT NOT NULL,
        file_name TEXT NOT NULL,
        label TEXT NOT NULL,
        kind TEXT NOT NULL,
        byte_length INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        width INTEGER, height INTEGER, duration_s REAL,
        pcm_rate INTEGER, pcm_channels INTEGER, pcm_bits INTEGER,
        created_at REAL NOT NULL,
        deleted_at REAL,
        provenance TEXT NOT NULL,
        text TEXT
    ) STRICT;
    CREATE UNIQUE INDEX asset_once ON asset (
        owner, media_type, sha256, ifnull(pcm_rate, 0), ifnull(pcm_channels, 0), ifnull(pcm_bits, 0)
    ) WHERE deleted_at IS NULL;
    CREATE INDEX asset_by_owner ON asset (owner, number) WHERE deleted_at IS NULL;
    CREATE INDEX asset_by_blob ON asset (sha256) WHERE deleted_at IS NULL;
    CREATE INDEX asset_deleted ON asset (deleted_at) WHERE deleted_at IS NOT NULL;
"""
COLUMNS: Final = (
    "asset_id, owner, media_type, file_name, label, kind, byte_length, sha256, width, height, duration_s,"
    " pcm_rate, pcm_channels, pcm_bits, created_at, provenance"
)
LIVE: Final = f"SELECT {COLUMNS} FROM asset WHERE deleted_at IS NULL"  # noqa: S608 - our own columns
SAME: Final = (
    f"{LIVE} AND owner = ? AND media_type = ? AND sha256 = ? AND (pcm_rate, pcm_channels, pcm_bits) IS (?, ?, ?)"
)
INSERT: Final = f"INSERT INTO asset ({COLUMNS}) VALUES ({', '.join('?' * 16)})"  # noqa: S608 - our own columns


@dataclass(frozen=True, slots=True)
class Asset:
    """A record: sizes in bytes, pixels and seconds, `created_at` in epoch seconds, `origin` the provenance as JSON."""

    asset_id: str
    owner: str
    media_type: str
    file_name: str
    label: str
    kind: str
    byte_length: int
    sha256: str
    width: int | None
    height: int | None
    duration_s: float | None
    pcm: Pcm | None
    created_at: float
    origin: str

    @property
    def uri(self) -> str:
        """The asset as a resource."""
        return f"asset://{self.asset_id}"

    @property
    def extension(self) -> str:
        """The ending that the bytes deserve, without a dot."""
        return extension_of(self.media_type)

    @property
    def provenance(self) -> JsonObject:
        """Where it comes from."""
        loaded: JsonObject = json.loads(self.origin)
        return loaded

    def as_json(self) -> JsonObject:
        """The asset object of results."""
        names = ("media_type", "file_name", "byte_length", "sha256", "width", "height", "duration_s")
        return {"asset_id": self.asset_id, "uri": self.uri, **{name: getattr(self, name) for name in names}}


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
        with anyio.CancelScope(shield=True):
            self._check_size(media)
            facts = await anyio.to_thread.run_sync(recognise, media)
            self._check(facts, kind)
            sha256 = await anyio.to_thread.run_sync(self._blobs.keep, media.data)
            row = _new_row(media, facts, sha256, owner=owner, label=label, kind=kind, provenance=provenance or {})

            def record(connection: Connection) -> Asset:
                # A deletion elsewhere may have taken the blob since; it cannot while this transaction runs.
                if not self._blobs.path(sha256).exists():
                    self._blobs.keep(media.data)
                return _insert_or_find(connection, row)

            kept = await self._database.write(record)
        return kept  # noqa: RET504 - to a type checker a scope may swallow what happens in it

    def _check_size(self, media: Media) -> None:
        if len(media.data) > self._max_bytes:
            most = f"At most {self._max_bytes:,} bytes."
            raise ResourceExhausted(f"{len(media.data):,} bytes are more than an asset may have.", hint=most)

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
            raise NotFound("There is no such asset.", hint="`kheish-daemon assets list` shows them.")
        return _asset(found[0])

    async def read(self, asset: Asset) -> Media:
        """The bytes, checked against length and digest; DataLoss names the asset."""
        try:
            data = await anyio.to_thread.run_sync(self._blobs.read, asset.sha256, asset.byte_length)
        except DataLoss as loss:
            raise DataLoss(
                f"{asset.uri} is damaged: {loss.message}",
                hint="`kheish-daemon assets verify` lists every damaged asset.",
                details={"uri": asset.uri},
            ) from None
        return Media(data, asset.media_type, asset.file_name, asset.pcm)

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

        found = [_asset(row) for row in await self._database.read(work)]
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
        assets = [_asset(row) for row in await self._database.rows(LIVE)]
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


def _new_row(
    media: Media, facts: Facts, sha256: str, *, owner: str, label: str, kind: str, provenance: Mapping[str, Json]
) -> Asset:
    asset_id = new_id("asset")
    default = f"{facts.kind.value if kind == 'file' else kind}-{asset_id[-6:]}"
    return Asset(
        asset_id=asset_id,
        owner=owner,
        media_type=facts.media_type,
        file_name=file_name(media.name, default, facts.extension, endings_of(facts.media_type)),
        label=plain(label)[:LONGEST_LABEL],
        kind=kind,
        byte_length=len(media.data),
        sha256=sha256,
        width=facts.width,
        height=facts.height,
        duration_s=facts.duration_s,
        pcm=facts.pcm,
        created_at=time.time(),
        origin=json.dumps(dict(provenance)),
    )


def _insert_or_find(connection: Connection, row: Asset) -> Asset:
    pcm = (row.pcm.rate, row.pcm.channels, row.pcm.bits) if row.pcm else (None, None, None)
    found = list(connection.execute(SAME, (row.owner, row.media_type, row.sha256, *pcm)))
    if found:
        return _asset(found[0])
    known = (row.asset_id, row.owner, row.media_type, row.file_name, row.label, row.kind, row.byte_length, row.sha256)
    connection.execute(INSERT, (*known, row.width, row.height, row.duration_s, *pcm, row.created_at, row.origin))
    return row


def _asset(row: tuple[Any, ...]) -> Asset:
    values = [*row[:11], Pcm(*row[11:14]) if row[11] is not None else None, *row[14:]]
    return Asset(*values)


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
