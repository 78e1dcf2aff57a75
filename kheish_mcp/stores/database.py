"""The one SQLite file: connections, migrations, transactions.

The crash story is SQLite's: with WAL and synchronous=FULL a transaction that was acknowledged is there after a kill
and after a power cut, and one that was not is there whole or not at all.
"""

from __future__ import annotations

import os
import secrets
import stat
from base64 import b32encode
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import anyio
import anyio.to_thread

from ..errors import ConfigError, DataLoss, KheishError, ResourceExhausted, StoreInsecure, Unavailable
from . import disk
from .migrations import MIGRATIONS

if TYPE_CHECKING:
    from apsw import Connection

T = TypeVar("T")
Value: TypeAlias = str | bytes | float | None

FILE: Final = "kheish.db"
LOCK: Final = "maintenance.lock"
APPLICATION_ID: Final = 0x4B484D43  # "KHMC"
PRAGMAS: Final = (
    "PRAGMA busy_timeout = 5000",
    # FULL: after a power cut NORMAL had lost up to 464 acknowledged commits, FULL none.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 67108864",
)
DOCTOR: Final = "`kheish-daemon doctor` says what is damaged; then restore kheish.db from a backup."


def new_id(prefix: str) -> str:
    """`prefix-` and 26 characters of lower-case base32: 128 random bits, not to be guessed, never used again."""
    return f"{prefix}-{b32encode(secrets.token_bytes(16)).decode('ascii').rstrip('=').lower()}"


def key_of(connection: Connection, name: str) -> bytes:
    """A key of this state root, 32 random bytes that every process gets alike, made when it is first needed."""
    connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, secrets.token_bytes(32)))
    [(key,)] = connection.execute("SELECT value FROM meta WHERE key = ?", (name,))
    return bytes(key)


class Database:
    """One connection, used by one thread at a time; other processes may have theirs on the same file.

    `read` and `write` run a function on the connection in a worker thread. A write is one IMMEDIATE transaction that a
    cancelled caller does not tear: it is on disk, or it never was, before the caller hears of its cancellation.
    """

    def __init__(self, connection: Connection, state_root: Path) -> None:
        self.state_root = state_root
        self._connection = connection
        self._turn = anyio.CapacityLimiter(1)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, state_root: Path, *, vfs: str | None = None, migrations: Sequence[str] = MIGRATIONS
    ) -> AsyncGenerator[Database]:
        """Opens the database of a state root, made or brought up to date first where it has to be.

        Each of `migrations` takes the schema from its index to the next; by default those of all stores. `vfs` names a
        registered SQLite file system without shared memory. ConfigError for a newer schema, for another program's
        file and for a folder that cannot be written; DataLoss for a damaged file.
        """
        connection = await anyio.to_thread.run_sync(_connect, state_root, vfs, tuple(migrations))
        database = cls(connection, state_root)
        try:
            yield database
        finally:
            await database.close()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` finds."""
        return await anyio.to_thread.run_sync(_guarded, work, self._connection, limiter=self._turn)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` gives, once its changes are on disk; none of them are when it raises."""
        with anyio.CancelScope(shield=True):
            result = await anyio.to_thread.run_sync(
                _guarded, lambda connection: _transaction(connection, work), self._connection, limiter=self._turn
            )
        return result  # noqa: RET504 - to a type checker a scope may swallow what happens in it

    async def rows(self, query: str, *values: Value) -> list[tuple[Any, ...]]:
        """The rows of one query."""
        return await self.read(lambda connection: list(connection.execute(query, values)))

    async def change(self, statement: str, *values: Value) -> int:
        """How many rows one statement has changed, which is on disk now."""

        def work(connection: Connection) -> int:
            connection.execute(statement, values)
            return connection.changes()

        return await self.write(work)

    async def key(self, name: str) -> bytes:
        """As `key_of`."""
        return await self.write(lambda connection: key_of(connection, name))

    async def close(self) -> None:
        """Waits for what is under way, and lets go of the file."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_close, self._connection, limiter=self._turn)


def journal_for(version: str) -> str:
    """WAL, unless this SQLite still has the WAL-reset race (mended in 3.51.3, 3.50.7, 3.44.6; 3.52.0 was withdrawn)."""
    numbers = tuple(int(part) for part in version.split("."))
    mended = (numbers >= (3, 51, 3) and numbers != (3, 52, 0)) or numbers in {(3, 50, 7), (3, 44, 6)}
    return "wal" if mended else "truncate"


def _connect(state_root: Path, vfs: str | None, migrations: Sequence[str]) -> Connection:
    import apsw

    if vfs is None:
        with disk.refusing():
            _make_file(state_root)
    with _refusing():
        connection = apsw.Connection(str(state_root / FILE), vfs=vfs)
    try:
        with _refusing():
            _prepare(connection, migrations, state_root if vfs is None else None)
    except BaseException:
        _close(connection)
        raise
    return connection


def _close(connection: Connection) -> None:
    import apsw

    # What a failing disk says now is no news: all that was acknowledged is on it.
    with suppress(apsw.Error):
        connection.close()


def _make_file(state_root: Path) -> None:
    """The empty file, for its user alone; SQLite gives the files beside it the same mode."""
    disk.make_folder(state_root)
    path = state_root / FILE
    with suppress(FileExistsError):
        # Exclusive: to open and close a database that is in use would drop this process's locks on it.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    found = path.lstat()
    # In a folder that others may write, one of theirs could know our tokens, or read along.
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise StoreInsecure(f"{path} is a link, or another user's.", hint="Move it away, and look at what is in it.")
    if found.st_mode & 0o077:
        path.chmod(0o600)


def _prepare(connection: Connection, migrations: Sequence[str], state_root: Path | None) -> None:
    """Sets the connection up, and the file where it is not yet as it should be.

    `state_root` is where the lock for that lies; None on a file system of one process, which has no shared memory.
    """
    import apsw

    journal = journal_for(apsw.sqlite_lib_version())
    if state_root is None:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    for pragma in PRAGMAS:
        connection.execute(pragma)
    as_it_is = tuple(connection.pragma(name) for name in ("application_id", "user_version", "journal_mode"))
    if as_it_is == (APPLICATION_ID, len(migrations), journal):
        return
    # Several first processes at once: the change to WAL fails for one of them at once, whatever busy_timeout says.
    with disk.locked(state_root / LOCK, wait=True) if state_root is not None else nullcontext():
        _transaction(connection, lambda inside: _migrate(inside, migrations))
        connection.execute(f"PRAGMA journal_mode = {journal}")


def _migrate(connection: Connection, migrations: Sequence[str]) -> None:
    """Runs what the file has not seen yet, in the caller's transaction; ConfigError for what is not ours to change."""
    version, name = int(connection.pragma("user_version")), connection.pragma("application_id")
    is_new = name == 0 and not list(connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1"))
    if name != APPLICATION_ID and not is_new:
        raise ConfigError(f"The {FILE} in the state root is another program's.", hint="Name another --state-root.")
    if version > len(migrations):
        raise ConfigError(
            f"The database in the state root is of a newer kheish-mcp (schema {version}, known here: {len(migrations)}).",
            hint="Update kheish-mcp, or name another --state-root.",
        )
    for migration in migrations[version:]:
        connection.execute(migration)
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", len(migrations))


def _transaction(connection: Connection, work: Callable[[Connection], T]) -> T:
    """IMMEDIATE from the start: a transaction that reads first and asks for the lock later is refused when others write."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        # A full disk or a failing one has rolled it back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _guarded(work: Callable[[Connection], T], connection: Connection) -> T:
    with _refusing():
        return work(connection)


@contextmanager
def _refusing() -> Generator[None]:
    """SQLite's failures become refusals of ours; an error in our own SQL stays what it is."""
    import apsw

    try:
        yield
    except apsw.Error as error:
        refusal = _refusal_of(error)
        if refusal is None:
            raise
        raise refusal from None


def _refusal_of(error: Exception) -> KheishError | None:
    """The refusal for what disk, permissions or other processes did; None for an error that is our own."""
    import apsw

    table: tuple[tuple[tuple[type[Exception], ...], KheishError], ...] = (
        ((apsw.FullError,), ResourceExhausted("The disk of the state root is full.", hint="Free some space first.")),
        ((apsw.IOError,), Unavailable("The database cannot be read or written.", hint="Look at the disk.")),
        ((apsw.BusyError, apsw.LockedError), Unavailable("The database is busy.", hint="Try again.", retryable=True)),
        ((apsw.CorruptError, apsw.NotADBError), DataLoss("The database is damaged.", hint=DOCTOR)),
        (
            (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError),
            ConfigError("The database cannot be opened.", hint="Mend the permissions of the state root."),
        ),
    )
    return next((refusal for kinds, refusal in table if isinstance(error, kinds)), None)
