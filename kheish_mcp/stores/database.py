"""The one SQLite file: connections, migrations, transactions."""

from __future__ import annotations

import secrets
from base64 import b32encode
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.to_thread

from ..errors import ConfigError, DataLoss, KheishError, ResourceExhausted, Unavailable

if TYPE_CHECKING:
    from apsw import Connection

T = TypeVar("T")

FILE: Final = "kheish.db"
APPLICATION_ID: Final = 0x4B484D43  # "KHMC"
PRAGMAS: Final = (
    "PRAGMA busy_timeout = 10000",
    # FULL: after a power cut NORMAL had lost up to 464 acknowledged commits, FULL none.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 67108864",
)
# Each entry brings the schema from its index to the next; entries are only ever added.
MIGRATIONS: Final = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
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
        text TEXT,
        preview BLOB, preview_type TEXT
    ) STRICT;
    CREATE UNIQUE INDEX asset_once ON asset (owner, media_type, sha256) WHERE deleted_at IS NULL;
    CREATE INDEX asset_blob ON asset (sha256);
    CREATE TABLE exchange (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id TEXT NOT NULL,
        owner TEXT NOT NULL,
        tool TEXT NOT NULL,
        route_id TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        state TEXT NOT NULL,
        generation_id TEXT,
        cost_usd REAL,
        error_code TEXT,
        asset_ids TEXT NOT NULL DEFAULT '[]',
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX exchange_by_time ON exchange (created_at);
    CREATE TABLE job (
        job_id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        tool TEXT NOT NULL,
        arguments_mac TEXT NOT NULL,
        state TEXT NOT NULL,
        progress TEXT NOT NULL DEFAULT '',
        result TEXT,
        error TEXT,
        delivered INTEGER NOT NULL DEFAULT 0,
        process TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE output (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        output_id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        session TEXT,
        content TEXT NOT NULL,
        parts TEXT NOT NULL,
        artifacts TEXT NOT NULL,
        created_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX output_by_session ON output (owner, session);
    """,
)


def new_id(prefix: str) -> str:
    """`prefix-` and 26 characters of lower-case base32: 128 random bits, not to be guessed, never used again."""
    return f"{prefix}-{b32encode(secrets.token_bytes(16)).decode('ascii').rstrip('=').lower()}"


class Database:
    """One connection, used by one thread at a time; other processes may have theirs on the same file.

    `read` and `write` run a function on the connection in a worker thread. A write is one IMMEDIATE transaction that a
    cancelled caller does not tear: it is committed to disk, or it never was, before the caller hears of its cancellation.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = anyio.CapacityLimiter(1)

    @classmethod
    @asynccontextmanager
    async def open(cls, state_root: Path, *, vfs: str | None = None) -> AsyncGenerator[Database]:
        """Opens (and makes, or brings up to date) the database of a state root; ConfigError for a newer one."""
        connection = await anyio.to_thread.run_sync(_connect, state_root, vfs)
        database = cls(connection)
        try:
            yield database
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(connection.close, limiter=database._turn)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` finds."""
        return await self._run(lambda: _refusing(lambda: work(self._connection)))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` gives once its changes are on disk."""
        return await self._run(lambda: _refusing(lambda: _transaction(self._connection, work)))

    async def _run(self, work: Callable[[], T]) -> T:
        with anyio.CancelScope(shield=True):
            return await anyio.to_thread.run_sync(work, limiter=self._turn)


def _transaction(connection: Connection, work: Callable[[Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _connect(state_root: Path, vfs: str | None) -> Connection:
    import apsw

    state_root.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state_root / FILE
    path.touch(mode=0o600, exist_ok=True)
    connection = apsw.Connection(str(path), vfs=vfs)

    def prepare() -> None:
        for pragma in PRAGMAS:
            connection.execute(pragma)
        connection.execute("PRAGMA journal_mode = WAL")
        _migrate(connection)

    try:
        _refusing(prepare)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: Connection) -> None:
    """Brings the schema up to date in one transaction; several processes may try at once, and the first one does it."""
    if connection.pragma("user_version") == len(MIGRATIONS):
        return

    def work(connection: Connection) -> None:
        version = int(connection.pragma("user_version"))
        if version > len(MIGRATIONS):
            raise ConfigError(
                f"The database in the state root is of a newer kheish-mcp (schema {version}).",
                hint="Update kheish-mcp, or use another --state-root.",
            )
        for migration in MIGRATIONS[version:]:
            connection.execute(migration)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", len(MIGRATIONS))

    _transaction(connection, work)


def _refusing(work: Callable[[], T]) -> T:
    """`work`, with SQLite's failures as ours."""
    import apsw

    try:
        return work()
    except apsw.Error as error:
        raise _refusal(error) from None


def _refusal(error: Exception) -> KheishError:
    import apsw

    table: dict[type[Exception], KheishError] = {
        apsw.FullError: ResourceExhausted(
            "The disk of the state root is full.", hint="Free some space, then try again."
        ),
        apsw.BusyError: Unavailable("The database is busy.", hint="Try again in a moment.", retryable=True),
        apsw.CorruptError: DataLoss("The database is damaged.", hint="Restore kheish.db from a backup."),
        apsw.NotADBError: DataLoss("kheish.db is not a database.", hint="Restore it from a backup, or move it away."),
    }
    return table.get(
        type(error), Unavailable(f"The database failed ({type(error).__name__}).", hint="Look at the disk.")
    )
