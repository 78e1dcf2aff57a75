"""The database: private, safe for several processes, whole after every kind of death, and clear in its refusals."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest

from kheish_mcp.errors import ConfigError, DataLoss, KheishError, ResourceExhausted, StoreInsecure, Unavailable
from kheish_mcp.stores.database import APPLICATION_ID, Database, journal_for, new_id
from kheish_mcp.stores.migrations import MIGRATIONS
from tests.children import exit_code_of, meet, together
from tests.memory_disk import MemoryDisk

pytestmark = pytest.mark.anyio

PROCESSES = 5
COUNT = "INSERT INTO meta VALUES ('count', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1"
PLAIN = ("CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER) STRICT",)


def read_and_count(connection: apsw.Connection) -> None:
    """One more than what was read: lost where another process writes in between."""
    [(value,)] = connection.execute("SELECT coalesce(max(value), 0) FROM meta")
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('count', ?)", (value + 1,))


def count_up(root: Path, roots: int, times: int) -> int:
    """A process that counts in several databases, none of which is there yet; gives how often."""

    async def main() -> int:
        written = 0
        for number in range(roots):
            meet()
            async with Database.open(root / str(number), migrations=PLAIN) as database:
                for _ in range(times):
                    await database.write(read_and_count)
                    written += 1
        return written

    return anyio.run(main)


def die_in_a_transaction(root: Path) -> None:
    """A process that commits one count and is killed with the next one written and not committed."""

    async def main() -> None:
        async with Database.open(root, migrations=PLAIN) as database:
            await database.change(COUNT)
            await database.write(lambda connection: (connection.execute(COUNT), os.kill(os.getpid(), signal.SIGKILL)))

    anyio.run(main)


async def counted(root: Path) -> Any:
    """What a new connection reads."""
    async with Database.open(root, migrations=PLAIN) as database:
        assert await database.rows("PRAGMA integrity_check") == [("ok",)]
        return (await database.rows("SELECT coalesce(max(value), 0) FROM meta"))[0][0]


def digest(path: Path) -> str:
    """What a file holds."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def mode(path: Path) -> int:
    """Who may do what."""
    return path.stat().st_mode & 0o777


def modes(folder: Path) -> dict[str, int]:
    """The modes of a folder's files by name."""
    return {path.name: mode(path) for path in folder.iterdir()}


@pytest.fixture
def foreign(state_root: Path) -> Path:
    """A state root whose kheish.db is another program's."""
    state_root.mkdir()
    other = apsw.Connection(str(state_root / "kheish.db"))
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    return state_root


@pytest.fixture
def nonsense(state_root: Path) -> Path:
    """A state root whose kheish.db is no database at all."""
    state_root.mkdir()
    (state_root / "kheish.db").write_bytes(b"no database, but long enough to be read as one" * 100)
    return state_root


async def test_everything_in_a_new_root_is_for_its_user_alone(state_root: Path):
    async with Database.open(state_root / "deeper", migrations=PLAIN) as database:
        await database.change(COUNT)
        assert mode(state_root) == mode(state_root / "deeper") == 0o700
        files = modes(state_root / "deeper")
    assert files == dict.fromkeys(("kheish.db", "kheish.db-wal", "kheish.db-shm", "maintenance.lock"), 0o600)


@pytest.mark.parametrize("planted", ["link", "theirs"])
async def test_a_database_that_somebody_planted_is_not_opened(state_root: Path, tmp_path: Path, planted: str):
    async with Database.open(tmp_path / "other"):
        pass
    state_root.mkdir()
    if planted == "link":
        (state_root / "kheish.db").symlink_to(tmp_path / "other" / "kheish.db")
    else:
        (state_root / "kheish.db").write_bytes((tmp_path / "other" / "kheish.db").read_bytes())
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(state_root / "kheish.db", 12345, 12345)
    with pytest.raises(StoreInsecure):
        async with Database.open(state_root):
            pass


async def test_a_file_that_others_could_read_is_closed_to_them(state_root: Path):
    async with Database.open(state_root, migrations=PLAIN):
        pass
    (state_root / "kheish.db").chmod(0o644)
    async with Database.open(state_root, migrations=PLAIN) as database:
        await database.change(COUNT)
        assert set(modes(state_root).values()) == {0o600}


async def test_every_connection_is_set_up_for_safety(state_root: Path):
    wanted = {
        "journal_mode": "wal", "synchronous": 2, "busy_timeout": 5000, "foreign_keys": 1, "trusted_schema": 0,
        "cell_size_check": 1, "mmap_size": 0, "temp_store": 2, "journal_size_limit": 64 << 20,
        "application_id": APPLICATION_ID, "user_version": len(MIGRATIONS),
    }  # fmt: skip
    for _ in ("made", "opened again"):
        async with Database.open(state_root) as database:
            found = await database.read(lambda connection: {name: connection.pragma(name) for name in wanted})
        assert found == wanted


@pytest.mark.parametrize(
    ("version", "journal"),
    [
        ("3.54.1", "wal"), ("3.51.3", "wal"), ("3.50.7", "wal"), ("3.44.6", "wal"), ("4.0", "wal"),
        ("3.52.0", "truncate"), ("3.51.2", "truncate"), ("3.50.6", "truncate"), ("3.45.0", "truncate"), ("3.44.5", "truncate"),
    ],
)  # fmt: skip
def test_a_sqlite_with_the_wal_reset_race_keeps_away_from_wal(version: str, journal: str):
    assert journal_for(version) == journal


def test_ids_are_random_and_of_one_shape():
    ids = {new_id("asset") for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"asset-[a-z2-7]{26}", each) for each in ids)


def test_processes_that_open_a_fresh_root_at_once_all_get_in_and_lose_nothing(state_root: Path):
    roots, times = 40, 4
    assert together(count_up, *[(state_root, roots, times)] * PROCESSES) == [roots * times] * PROCESSES
    for number in range(roots):
        assert anyio.run(counted, state_root / str(number)) == times * PROCESSES


def test_a_process_killed_in_a_transaction_takes_only_that_with_it(state_root: Path):
    assert exit_code_of(die_in_a_transaction, state_root) == -signal.SIGKILL
    assert anyio.run(counted, state_root) == 1


async def test_an_older_schema_is_brought_up_to_date_with_its_rows(state_root: Path):
    async with Database.open(state_root, migrations=PLAIN) as database:
        await database.change(COUNT)
    for _ in ("now", "and not twice"):
        async with Database.open(state_root, migrations=(*PLAIN, "ALTER TABLE meta ADD COLUMN note TEXT")) as database:
            assert await database.rows("SELECT value, note FROM meta") == [(1, None)]


async def test_a_migration_that_fails_changes_nothing(state_root: Path):
    async with Database.open(state_root, migrations=PLAIN) as database:
        await database.change(COUNT)
    with pytest.raises(apsw.SQLError):
        async with Database.open(state_root, migrations=(*PLAIN, "CREATE TABLE half (x); CREATE TABLE meta (x)")):
            pass
    async with Database.open(state_root, migrations=PLAIN) as database:
        assert await database.rows("SELECT name FROM sqlite_schema WHERE name = 'half'") == []
        assert await database.rows("SELECT value FROM meta") == [(1,)]


async def test_a_newer_schema_is_refused_with_the_way_out(state_root: Path):
    async with Database.open(state_root, migrations=(*PLAIN, "CREATE TABLE later (x)")):
        pass
    with pytest.raises(ConfigError, match="schema 2") as refusal:
        async with Database.open(state_root, migrations=PLAIN):
            pass
    assert "Update kheish-mcp" in str(refusal.value.hint)


async def test_another_program_s_database_is_left_as_it_is(foreign: Path):
    before = digest(foreign / "kheish.db")
    with pytest.raises(ConfigError, match="another program"):
        async with Database.open(foreign):
            pass
    assert digest(foreign / "kheish.db") == before


async def test_a_file_that_is_no_database_is_data_loss_and_the_doctor_is_named(nonsense: Path):
    with pytest.raises(DataLoss) as refusal:
        async with Database.open(nonsense):
            pass
    assert "kheish-daemon doctor" in str(refusal.value.hint)


async def test_a_damaged_page_is_data_loss_when_it_is_met(state_root: Path):
    async with Database.open(state_root) as database:
        page_size = (await database.rows("PRAGMA page_size"))[0][0]
        [(page,)] = await database.rows("SELECT rootpage FROM sqlite_schema WHERE name = 'output'")
    with (state_root / "kheish.db").open("r+b") as file:
        file.seek((page - 1) * page_size)
        file.write(b"\xff" * page_size)
    async with Database.open(state_root) as database:
        with pytest.raises(DataLoss) as refusal:
            await database.rows("SELECT * FROM output")
    assert "kheish-daemon doctor" in str(refusal.value.hint)


async def test_a_root_that_cannot_be_a_folder_is_the_caller_s_to_mend(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError) as refusal:
        async with Database.open(tmp_path / "file" / "state"):
            pass
    assert "--state-root" in str(refusal.value.hint)
    assert str(tmp_path) not in refusal.value.message


async def test_a_write_that_raises_leaves_nothing_behind(state_root: Path):
    def work(connection: apsw.Connection) -> None:
        connection.execute(COUNT)
        raise ResourceExhausted("Half way.")

    async with Database.open(state_root, migrations=PLAIN) as database:
        with pytest.raises(ResourceExhausted, match="Half way"):
            await database.write(work)
        assert await database.rows("SELECT * FROM meta") == []
        assert await database.change(COUNT) == 1


async def test_a_write_under_way_is_not_torn_by_a_cancellation(state_root: Path):
    begun, go_on = anyio.Event(), threading.Event()

    def work(connection: apsw.Connection) -> None:
        connection.execute(COUNT)
        anyio.from_thread.run_sync(begun.set)
        assert go_on.wait(30)

    async with Database.open(state_root, migrations=PLAIN) as database:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(database.write, work)
                await begun.wait()
                group.cancel_scope.cancel()
                go_on.set()
        assert await database.rows("SELECT value FROM meta") == [(1,)]


async def test_who_is_cancelled_already_can_still_write_down_what_happened(state_root: Path):
    async with Database.open(state_root, migrations=PLAIN) as database:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await database.change(COUNT)
        assert await database.rows("SELECT value FROM meta") == [(1,)]


async def test_a_database_that_stays_busy_is_worth_another_try(state_root: Path):
    async with (
        Database.open(state_root, migrations=PLAIN) as one,
        Database.open(state_root, migrations=PLAIN) as other,
    ):
        await other.read(lambda connection: connection.set_busy_timeout(10))
        await one.read(lambda connection: connection.execute("BEGIN IMMEDIATE"))
        with pytest.raises(Unavailable) as refusal:
            await other.change(COUNT)
        assert refusal.value.retryable
        await one.read(lambda connection: connection.execute("ROLLBACK"))
        assert await other.change(COUNT) == 1


async def test_our_own_mistakes_are_not_dressed_up_as_the_disk_s(state_root: Path):
    async with Database.open(state_root) as database:
        with pytest.raises(apsw.SQLError):
            await database.rows("SELECT nothing FROM nowhere")


@asynccontextmanager
async def on(disk: MemoryDisk) -> AsyncGenerator[Database]:
    """A database on a disk in memory."""
    async with Database.open(Path("/state"), vfs=disk.name, migrations=PLAIN) as database:
        yield database


@pytest.mark.parametrize(("failure", "refusal"), [(apsw.FullError, ResourceExhausted), (apsw.IOError, Unavailable)])
async def test_a_disk_that_fails_at_any_step_is_a_refusal_and_nothing_is_lost(
    failure: type[Exception], refusal: type[KheishError]
):
    async def attempt(at: int) -> bool:
        """Two counts, of which step `at` of the second fails: whether it did."""
        disk = MemoryDisk(f"failing-{failure.__name__}-{at}")
        async with on(disk) as database:
            await database.change(COUNT)
            first = disk.steps

            def fail(step: int) -> None:
                if step == first + at:
                    raise failure("the disk says no")

            disk.fault = fail
            refused = True
            with suppress(refusal):
                await database.change(COUNT)
                refused = False
            disk.fault = lambda step: None
            assert await database.rows("SELECT value FROM meta") == [(1 if refused else 2,)]
            await database.change(COUNT)
            assert await database.rows("PRAGMA integrity_check") == [("ok",)]
        return refused

    outcomes = [await attempt(at) for at in range(1, 8)]
    assert outcomes[0]
    assert not outcomes[-1]


async def test_a_power_cut_at_any_step_loses_no_acknowledged_write():
    disk = MemoryDisk("cut")
    acknowledged, cuts = 0, []

    def remember(step: int) -> None:
        cuts.append((acknowledged, disk.after_power_cut(f"cut-{step}")))

    disk.fault = remember
    async with on(disk) as database:
        for _ in range(5):
            await database.change(COUNT)
            acknowledged += 1
    assert len(cuts) > 10
    for before, left in cuts:
        async with on(left) as database:
            assert await database.rows("PRAGMA integrity_check") == [("ok",)]
            [(found,)] = await database.rows("SELECT coalesce(max(value), 0) FROM meta")
            assert found in (before, before + 1)
