"""Journals: order, one run at a time across processes, runs of dead processes, and five hundred turns."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import anyio
import apsw
import pytest

from kheish_mcp.errors import InvalidArgument, NotFound, ResourceExhausted
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.migrations import JOURNAL, MIGRATIONS
from kheish_mcp.stores.sessions import SessionStore, session_name
from tests.children import exit_code_of, meet, together
from tests.memory_disk import MemoryDisk

pytestmark = pytest.mark.anyio
DEADLINE_S = 60


@asynccontextmanager
async def opened(state_root: Path) -> AsyncGenerator[SessionStore]:
    """The sessions of a state root."""
    async with Database.open(state_root) as database:
        store = SessionStore(database)
        try:
            yield store
        finally:
            store.close()


async def states(store: SessionStore, session: str = "demo") -> list[object]:
    """The state of each run of a session, in order."""
    runs = (await store.read(session, "local"))["runs"]
    assert isinstance(runs, list)
    return [run["state"] for run in runs if isinstance(run, dict)]


async def test_a_journal_keeps_its_order_and_belongs_to_its_owner(state_root: Path):
    async with opened(state_root) as store:
        async with store.turn("demo", "local") as run:
            await run.write("input", {"text": "Hello.", "attachments": []})
            await store.publish("demo", "local", "A picture.", [{"type": "text", "text": "A picture."}], [])
            await run.write("answer", {"text": "Done."})
        await store.publish("other", "local", "Elsewhere.", [], [])
        shown = await store.read("demo", "local")
        entries, outputs = shown["entries"], shown["outputs"]
        assert isinstance(entries, list)
        assert isinstance(outputs, list)
        assert [entry["kind"] for entry in entries if isinstance(entry, dict)] == ["input", "output", "answer"]
        assert [output["content"] for output in outputs if isinstance(output, dict)] == ["A picture."]
        assert await store.names("local") == ("other", "demo")
        assert await store.names("somebody") == ()
        with pytest.raises(NotFound):
            await store.read("demo", "somebody")


async def test_a_tool_s_long_result_is_shown_cut_and_kept_whole(state_root: Path):
    async with opened(state_root) as store:
        async with store.turn("demo", "local") as run:
            await run.write("tool", {"name": "get_job", "content": "x" * 50_000})
        [entry] = await store.entries("demo", "local")
    assert len(str(entry.as_json()["content"])) == 4000
    assert len(str(entry.body["content"])) == 50_000


async def test_the_overview_counts(state_root: Path):
    async with opened(state_root) as store:
        for text in ("one", "two"):
            async with store.turn("demo", "local") as run:
                await run.write("input", {"text": text, "attachments": []})
        await store.publish("demo", "local", "Shown.", [], [])
        [row] = await store.overview("local")
        shown = await store.read("demo", "local")
    assert (row["session"], row["inputs"], row["outputs"]) == ("demo", 2, 1)
    times = [row["created_at"], row["updated_at"], *(each["created_at"] for each in shown["entries"] + shown["runs"])]
    assert all(
        time.endswith("Z") and datetime.fromisoformat(time) for time in [*times, shown["outputs"][0]["created_at"]]
    )


@pytest.mark.parametrize("name", ["", "-a", "a/b", "a b", "a" * 129, "a\n", "ä"])
def test_a_name_that_would_not_stand_in_a_uri_is_refused(name: str):
    with pytest.raises(InvalidArgument):
        session_name(name)


@pytest.mark.parametrize("name", ["demo", "a", "2026-11-25_x.y", "A" * 128])
def test_a_good_name_is_taken(name: str):
    assert session_name(name) == name


async def test_runs_of_one_session_take_turns_in_the_order_in_which_they_came(state_root: Path):
    async with opened(state_root) as store:
        told: list[str] = []
        waits = anyio.Event()

        async def waiting(sentence: str) -> None:
            told.append(sentence)
            waits.set()

        async def second() -> None:
            async with store.turn("demo", "local", waiting) as run:
                await run.write("input", {"text": "second"})

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as group, store.turn("demo", "local") as run:
                group.start_soon(second)
                await waits.wait()
                async with store.turn("other", "local"):
                    await run.write("input", {"text": "first"})
                assert await states(store) == ["running", "queued"]
        assert [entry.body["text"] for entry in await store.entries("demo", "local")] == ["first", "second"]
        assert told == ["waiting for an earlier run in session demo"]
        assert await states(store) == ["completed", "completed"]


async def test_a_run_that_fails_or_is_cancelled_lets_the_next_one_in(state_root: Path):
    async with opened(state_root) as store:
        with pytest.raises(ResourceExhausted):
            async with store.turn("demo", "local"):
                raise ResourceExhausted("Out of credit.")
        with anyio.CancelScope() as scope:
            async with store.turn("demo", "local"):
                scope.cancel()
                await anyio.sleep_forever()
        async with store.turn("demo", "local"):
            pass
        assert await states(store) == ["failed", "interrupted", "completed"]
        runs = (await store.read("demo", "local"))["runs"]
        assert isinstance(runs, list)
        assert isinstance(runs[0], dict)
        assert runs[0]["error"] == {"code": "resource_exhausted", "message": "Out of credit.", "retryable": False}


async def test_who_waits_may_leave(state_root: Path):
    async with opened(state_root) as store, store.turn("demo", "local"):
        with anyio.CancelScope() as scope:

            async def waiting(_: str) -> None:
                scope.cancel()

            async with store.turn("demo", "local", waiting):
                pytest.fail("it was not its turn")
        assert await states(store) == ["running", "interrupted"]


def take_a_turn(state_root: Path, name: str) -> None:
    """A run that writes two entries, in a process of its own."""

    async def main() -> None:
        async with opened(state_root) as store:
            meet()
            async with store.turn("demo", "local") as run:
                await run.write("input", {"text": name})
                await run.write("answer", {"text": name})

    anyio.run(main)


async def test_runs_of_several_processes_never_mix(state_root: Path):
    async with opened(state_root) as store:
        await anyio.to_thread.run_sync(
            lambda: together(take_a_turn, (state_root, "a"), (state_root, "b"), (state_root, "c"))
        )
        texts = [str(entry.body["text"]) for entry in await store.entries("demo", "local")]
    assert texts[::2] == texts[1::2]
    assert sorted(texts) == ["a", "a", "b", "b", "c", "c"]


def die_in_a_turn(state_root: Path) -> None:
    """A process that is gone while its run is under way."""

    async def main() -> None:
        async with opened(state_root) as store, store.turn("demo", "local") as run:
            await run.write("input", {"text": "half"})
            os._exit(9)

    anyio.run(main)


async def test_a_run_killed_half_way_is_interrupted_and_the_next_one_works(state_root: Path):
    assert await anyio.to_thread.run_sync(exit_code_of, die_in_a_turn, state_root) == 9
    async with opened(state_root) as store:
        assert await states(store) == ["interrupted"]
        with anyio.fail_after(DEADLINE_S):
            async with store.turn("demo", "local") as run:
                await run.write("input", {"text": "next"})
        assert await states(store) == ["interrupted", "completed"]
        assert [entry.body["text"] for entry in await store.entries("demo", "local")] == ["half", "next"]


async def test_outputs_of_before_there_were_journals_stand_in_them(state_root: Path):
    before = MIGRATIONS[: MIGRATIONS.index(JOURNAL)]
    insert = (
        "INSERT INTO output (output_id, owner, session, content, parts, artifacts, created_at)"
        " VALUES (?, 'local', ?, ?, '[{\"type\": \"text\"}]', '[]', 5.0)"
    )
    async with Database.open(state_root, migrations=before) as database:
        await database.change(insert, "output-1", "demo", "Old.")
        await database.change(insert, "output-2", None, "Nobody's.")
    async with opened(state_root) as store:
        [entry] = await store.entries("demo", "local")
        assert entry.body == {"output_id": "output-1", "content": "Old.", "parts": [{"type": "text"}], "artifacts": []}
        assert await store.names("local") == ("demo",)


async def test_five_hundred_turns_are_read_at_once(state_root: Path):
    async with opened(state_root) as store:
        async with store.turn("demo", "local") as run:
            for number in range(500):
                await run.write("input", {"text": f"question {number}"})
        entries = await store.entries("demo", "local")
    assert [entry.body["text"] for entry in entries] == [f"question {number}" for number in range(500)]


async def test_a_full_disk_at_the_end_of_a_run_holds_up_nobody(state_root: Path):
    disk = MemoryDisk("full-at-the-end-of-a-run")

    def full(step: int) -> None:
        raise apsw.FullError

    async with Database.open(state_root, vfs=disk.name) as database:
        store = SessionStore(database)
        async with store.turn("demo", "local") as run:
            await run.write("answer", {"text": "Hello."})
            disk.fault = full
        disk.fault = lambda step: None
        with anyio.fail_after(DEADLINE_S):
            async with store.turn("demo", "local"):
                assert await states(store) == ["completed", "running"]
        assert await states(store) == ["completed", "completed"]
        store.close()
