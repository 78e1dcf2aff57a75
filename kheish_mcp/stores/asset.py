"""One asset's record: what it says, and how it stands in its row."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..errors import Json, JsonObject
from ..formats import endings_of, extension_of
from ..media import Facts, Media, Pcm
from ..names import file_name, plain
from .database import new_id

if TYPE_CHECKING:
    from apsw import Connection

LONGEST_LABEL: Final = 200
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


def new_row(
    media: Media, facts: Facts, sha256: str, *, owner: str, label: str, kind: str, provenance: Mapping[str, Json]
) -> Asset:
    """A record that is on no disk yet, with an id of its own."""
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


def insert_or_find(connection: Connection, row: Asset) -> Asset:
    """The record of these bytes that its owner has already, else this one, inserted."""
    pcm = (row.pcm.rate, row.pcm.channels, row.pcm.bits) if row.pcm else (None, None, None)
    found = list(connection.execute(SAME, (row.owner, row.media_type, row.sha256, *pcm)))
    if found:
        return asset_of(found[0])
    known = (row.asset_id, row.owner, row.media_type, row.file_name, row.label, row.kind, row.byte_length, row.sha256)
    connection.execute(INSERT, (*known, row.width, row.height, row.duration_s, *pcm, row.created_at, row.origin))
    return row


def asset_of(row: tuple[Any, ...]) -> Asset:
    """The record in a row of COLUMNS."""
    values = [*row[:11], Pcm(*row[11:14]) if row[11] is not None else None, *row[14:]]
    return Asset(*values)
