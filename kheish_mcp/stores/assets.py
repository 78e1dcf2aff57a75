"""Immutable blobs and the records that name them."""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.to_thread

from ..errors import DataLoss, InvalidArgument, JsonObject, MediaRejected, NotFound, ResourceExhausted
from ..formats import extension_of, recognise
from ..media import Facts, Media, Pcm
from .blobs import Blobs
from .database import Database, new_id

if TYPE_CHECKING:
    from apsw import Connection

T = TypeVar("T")

MICROPHONE: Final = frozenset({"audio/wav", "audio/webm"})
LONGEST_NAME: Final = 120
COLUMNS: Final = (
    "asset_id, owner, media_type, file_name, label, kind, byte_length, sha256, width, height, duration_s,"
    " pcm_rate, pcm_channels, pcm_bits, created_at, provenance"
)


@dataclass(frozen=True, slots=True)
class Asset:
    """A record: sizes in bytes, pixels and seconds, `created_at` in epoch seconds, `provenance` as JSON text."""

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
        return {
            "asset_id": self.asset_id,
            "uri": self.uri,
            "media_type": self.media_type,
            "file_name": self.file_name,
            "byte_length": self.byte_length,
            "sha256": self.sha256,
            "width": self.width,
            "height": self.height,
            "duration_s": self.duration_s,
        }


class AssetStore:
    """The assets of one state root: exact bytes, equal bytes once per owner, integrity on every read.

    The record is written last and goes first, so a record never names a blob that is not there.
    """

    def __init__(
        self, state_root: Path, database: Database, *, max_bytes: int = 64 << 20, max_pixels: int = 100_000_000
    ) -> None:
        self._database = database
        self._blobs = Blobs(state_root / "assets" / "blobs")
        self._files = state_root / "assets" / "files"
        self._quarantine = state_root / "quarantine"
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels

    async def keep(
        self,
        media: Media,
        *,
        owner: str,
        label: str = "",
        kind: str = "file",
        provenance: Mapping[str, Any] | None = None,
    ) -> Asset:
        """The asset of these bytes, new or the one that is already there.

        MediaRejected where declared type and bytes disagree, the type is not taken, or `kind` does not take it;
        ResourceExhausted over the limits. A cancelled caller does not stop it half way.
        """
        if len(media.data) > self._max_bytes:
            raise ResourceExhausted(
                f"{len(media.data):,} bytes are more than an asset may have.",
                hint=f"At most {self._max_bytes:,} bytes.",
            )
        facts = recognise(media)
        self._check(facts, kind)
        with anyio.CancelScope(shield=True):
            sha256 = await anyio.to_thread.run_sync(self._blobs.keep, media.data)
            row = _new_row(media, facts, sha256, owner=owner, label=label, kind=kind, provenance=provenance or {})

            def record(connection: Connection) -> Asset:
                # A deletion elsewhere may have taken the blob since; it cannot while this transaction runs.
                if not self._blobs.path(sha256).exists():
                    self._blobs.keep(media.data)
                return _insert_or_find(connection, row)

            return await self._database.write(record)

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
        query = f"SELECT {COLUMNS} FROM asset WHERE asset_id = ? AND owner = ? AND deleted_at IS NULL"  # noqa: S608 - our columns
        found = await self._one(query, (asset_id, owner))
        if found is None:
            raise NotFound(
                "There is no such asset.", hint="resources/list, or `kheish-daemon assets list`, shows them."
            )
        return _asset(found)

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
        """A file of the asset's own name and ending, for programs on this machine; it shares the blob's bytes."""

        def link() -> Path:
            path = self._files / asset.asset_id / asset.file_name
            if not path.exists():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _link_or_copy(self._blobs.path(asset.sha256), path)
            return path

        return await anyio.to_thread.run_sync(link)

    async def page(self, owner: str, cursor: str | None, limit: int = 100) -> tuple[tuple[Asset, ...], str | None]:
        """Assets, newest first, and the cursor of the next page; InvalidArgument for a cursor that is not ours."""
        before = _decoded(cursor) if cursor is not None else 1 << 62

        def work(connection: Connection) -> list[tuple[Any, ...]]:
            query = f"SELECT number, {COLUMNS} FROM asset WHERE owner = ? AND number < ? AND deleted_at IS NULL"  # noqa: S608 - our columns
            return list(connection.execute(f"{query} ORDER BY number DESC LIMIT ?", (owner, before, limit + 1)))

        found = await self._database.read(work)
        following = _encoded(int(found[limit - 1][0])) if len(found) > limit else None
        return tuple(_asset(row[1:]) for row in found[:limit]), following

    async def newest(self) -> int:
        """Grows with every new asset, whichever process made it."""
        found = await self._one("SELECT coalesce(max(number), 0) FROM asset", ())
        return int(found[0]) if found else 0

    async def delete(self, asset_id: str, owner: str) -> bool:
        """Takes an asset away: its record first, then its bytes unless another asset shares them."""
        asset = await self.get(asset_id, owner)

        def work(connection: Connection) -> bool:
            connection.execute("UPDATE asset SET deleted_at = ? WHERE asset_id = ?", (time.time(), asset_id))
            query = "SELECT count(*) FROM asset WHERE sha256 = ? AND deleted_at IS NULL"
            [(others,)] = connection.execute(query, (asset.sha256,))
            if not others:
                # Inside the transaction: a writer of equal bytes waits for it, and then writes the blob anew.
                self._blobs.remove(asset.sha256)
            return True

        (self._files / asset_id / asset.file_name).unlink(missing_ok=True)
        return await self._database.write(work)

    async def gc(self, *, execute: bool) -> tuple[str, ...]:
        """The names of files that nothing refers to, older than an hour; removed if `execute`."""
        rows = await self._all("SELECT DISTINCT sha256 FROM asset WHERE deleted_at IS NULL", ())
        named = frozenset(str(sha256) for (sha256,) in rows)

        def sweep() -> tuple[str, ...]:
            stale = list(self._blobs.stale(named))
            for path in stale if execute else ():
                path.unlink(missing_ok=True)
            return tuple(path.name for path in stale)

        return await anyio.to_thread.run_sync(sweep)

    async def verify(self) -> tuple[int, tuple[str, ...]]:
        """Reads every blob: how many assets there are, and the ids of the damaged ones."""
        rows = await self._all(f"SELECT {COLUMNS} FROM asset WHERE deleted_at IS NULL", ())  # noqa: S608 - our columns
        damaged = []
        for asset in map(_asset, rows):
            try:
                await self.read(asset)
            except DataLoss:
                damaged.append(asset.asset_id)
        return len(rows), tuple(damaged)

    async def set_text(self, asset: Asset, text: str) -> None:
        """The asset's canonical text: a sound's words, a document's content."""
        await self._set(asset, "text = ?", text)

    async def text(self, asset: Asset) -> str | None:
        """The canonical text, if it has one."""
        found = await self._one("SELECT text FROM asset WHERE asset_id = ?", (asset.asset_id,))
        return None if found is None or found[0] is None else str(found[0])

    async def set_preview(self, asset: Asset, data: bytes, media_type: str) -> None:
        """A small picture of the asset, so that it need not be made again."""
        await self._set(asset, "preview = ?, preview_type = ?", data, media_type)

    async def preview(self, asset: Asset) -> tuple[bytes, str] | None:
        """The small picture with its media type, if it was made."""
        found = await self._one("SELECT preview, preview_type FROM asset WHERE asset_id = ?", (asset.asset_id,))
        return None if found is None or found[0] is None else (bytes(found[0]), str(found[1]))

    async def set_aside(self, data: bytes, reason: str) -> str:
        """Keeps bytes that were paid for and cannot be used, with a note why; gives their name in `quarantine/`."""

        def write() -> str:
            self._quarantine.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}.bin"
            for path, content in ((name, data), (f"{name}.json", json.dumps({"reason": reason}).encode())):
                descriptor = os.open(self._quarantine / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            return name

        with anyio.CancelScope(shield=True):
            return await anyio.to_thread.run_sync(write)

    async def _set(self, asset: Asset, assignment: str, *values: str | bytes) -> None:
        query = f"UPDATE asset SET {assignment} WHERE asset_id = ?"  # noqa: S608 - our columns
        await self._database.write(lambda connection: connection.execute(query, (*values, asset.asset_id)) and None)

    async def _one(self, query: str, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        rows = await self._all(query, values)
        return rows[0] if rows else None

    async def _all(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return await self._database.read(lambda connection: list(connection.execute(query, values)))


def _new_row(
    media: Media, facts: Facts, sha256: str, *, owner: str, label: str, kind: str, provenance: Mapping[str, Any]
) -> Asset:
    asset_id = new_id("asset")
    return Asset(
        asset_id=asset_id,
        owner=owner,
        media_type=facts.media_type,
        file_name=safe_name(media.name, f"{facts.kind.value}-{asset_id[-6:]}", facts.extension),
        label=_clean(label)[:LONGEST_NAME],
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
    query = f"SELECT {COLUMNS} FROM asset WHERE owner = ? AND media_type = ? AND sha256 = ? AND deleted_at IS NULL"  # noqa: S608 - our columns
    found = list(connection.execute(query, (row.owner, row.media_type, row.sha256)))
    if found:
        return _asset(found[0])
    pcm = (row.pcm.rate, row.pcm.channels, row.pcm.bits) if row.pcm else (None, None, None)
    values = (row.asset_id, row.owner, row.media_type, row.file_name, row.label, row.kind, row.byte_length, row.sha256)
    more = (row.width, row.height, row.duration_s, *pcm, row.created_at, row.origin)
    marks = ", ".join("?" for _ in (*values, *more))
    connection.execute(f"INSERT INTO asset ({COLUMNS}) VALUES ({marks})", (*values, *more))  # noqa: S608 - our columns
    return row


def _asset(row: tuple[Any, ...]) -> Asset:
    pcm = Pcm(row[11], row[12], row[13]) if row[11] is not None else None
    return Asset(*row[:11], pcm, *row[14:])


def safe_name(name: str, default: str, extension: str) -> str:
    """A file name that any system and any reader can take, with the ending that the bytes deserve."""
    stem = _clean(name).replace("\\", "/").rsplit("/", 1)[-1].strip(". ")
    stem = stem.rsplit(".", 1)[0] if "." in stem else stem
    kept = "".join("_" if character in '<>:"|?*' else character for character in stem).strip(". ")
    return f"{(kept or default)[: LONGEST_NAME - 8]}.{extension}"


def _clean(text: str) -> str:
    """Text without what could hide in it: control, format (bidi, zero width, tags) and private characters."""
    normal = unicodedata.normalize("NFC", text)
    return "".join(character for character in normal if unicodedata.category(character)[0] != "C")


def _link_or_copy(blob: Path, path: Path) -> None:
    try:
        os.link(blob, path)
    except FileExistsError:
        return
    except OSError:
        path.write_bytes(blob.read_bytes())


def _encoded(number: int) -> str:
    return base64.urlsafe_b64encode(f"asset:{number}".encode()).decode().rstrip("=")


def _decoded(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        if not text.startswith("asset:") or _encoded(int(text[6:])) != cursor:
            raise ValueError
        return int(text[6:])
    except (ValueError, binascii.Error):
        raise InvalidArgument("Unknown cursor.", hint="Take nextCursor from the page before.") from None
