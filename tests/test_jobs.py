"""Jobs: they outlive who asked, end on record whatever happens, and a dead process's are told from a living one's."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import anyio
import apsw
import pytest

from kheish_mcp.errors import Aborted, DataLoss, FailedPrecondition, JsonObject, NotFound, ResourceExhausted
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.jobs import Job, JobRecord, Jobs
from kheish_mcp.stores.ledger import Ledger
from kheish_mcp.stores.sessions import SessionStore
from tests.children import DEADLINE_S, SERVED, exit_code_of, started
from tests.memory_disk import MemoryDisk

pytestmark = pytest.mark.anyio

ME, YOU = "local", "token-b"
PROMPT = "a lighthouse that nobody else may read of"
Work = Callable[[Job], Awaitable[JsonObject]]


@dataclass(frozen=True, slots=True)
class Place:
    """The jobs of a process, and what is around them."""

    jobs: Jobs
    database: Database
    group: anyio.abc.TaskGroup

    async def run(self, work: Work, owner: str = ME) -> JobRecord:
        """A job from its start to its end."""
        job = await self.jobs.start(owner, "generate_image", {"prompt": PROMPT}, work)
        assert await self.jobs.wait(job.job_id, 30)
        return await self.jobs.get(job.job_id, owner)


@asynccontextmanager
async def opened(root: Path, vfs: str | None = None) -> AsyncGenerator[Place]:
    """A daemon's jobs on a state root; on the way out the daemon stops."""
    async with Database.open(root, vfs=vfs) as database, anyio.create_task_group() as group:
        jobs = Jobs(database, group)
        await jobs.open()
        try:
            with anyio.fail_after(60):
                yield Place(jobs, database, group)
        finally:
            group.cancel_scope.cancel()
    jobs.close()


class Gate:
    """Work that says when it has begun, and goes on when it is told to."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.go_on = anyio.Event()

    async def work(self, job: Job) -> JsonObject:
        """Waits, and gives a result."""
        self.begun.set()
        await self.go_on.wait()
        return {"answer": 42}


async def answer(job: Job) -> JsonObject:
    """Work that is done at once."""
    return {"answer": 42, "job_id": job.job_id}


async def test_a_finished_job_is_on_record_with_its_result(state_root: Path):
    async with opened(state_root) as place:
        record = await place.run(answer)
    assert (record.state, record.error, record.delivered) == ("completed", None, False)
    assert record.result == {"answer": 42, "job_id": record.job_id}
    assert (record.owner, record.tool) == (ME, "generate_image")


async def test_a_job_outlives_the_request_that_asked_for_it(state_root: Path):
    gate = Gate()
    async with opened(state_root) as place:
        with anyio.CancelScope() as request:
            job = await place.jobs.start(ME, "generate_image", {}, gate.work)
            await gate.begun.wait()
            request.cancel()
            await place.jobs.wait(job.job_id, 30)
        assert request.cancelled_caught
        assert (await place.jobs.get(job.job_id, ME)).state == "working"
        gate.go_on.set()
        assert await place.jobs.wait(job.job_id, 30)
        assert (await place.jobs.get(job.job_id, ME)).result == {"answer": 42}


async def test_a_wait_that_is_over_says_whether_the_job_is_too(state_root: Path):
    gate = Gate()
    async with opened(state_root) as place:
        job = await place.jobs.start(ME, "generate_image", {}, gate.work)
        assert not await place.jobs.wait(job.job_id, 0.01)
        assert place.jobs.in_flight == 1
        gate.go_on.set()
        await place.jobs.idle()
        assert place.jobs.in_flight == 0
        assert await place.jobs.wait(job.job_id, 0)


async def test_a_refusal_is_the_job_s_error_word_for_word(state_root: Path):
    refusal = ResourceExhausted("Out of credit.", hint="Add some.", retry_after_s=3.0, details={"usd": 0.1})

    async def work(job: Job) -> JsonObject:
        raise refusal

    async with opened(state_root) as place:
        record = await place.run(work)
    assert (record.state, record.result, record.error) == ("failed", None, refusal.as_json())


async def test_a_bug_is_an_internal_error_whose_words_stay_in_the_log(
    state_root: Path, caplog: pytest.LogCaptureFixture
):
    async def work(job: Job) -> JsonObject:
        raise ZeroDivisionError("by seven")

    async with opened(state_root) as place:
        record = await place.run(work)
        assert (await place.run(answer)).state == "completed"
    assert record.error is not None
    assert (record.state, record.error["code"], record.error["message"]) == ("failed", "internal", "Internal error.")
    assert "by seven" not in str(record.error)
    [logged] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert logged.exc_info
    assert logged.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("result", [{"number": float("nan")}, {"thing": object()}], ids=["nan", "object"])
async def test_a_result_that_is_no_json_is_a_bug_too(state_root: Path, result: JsonObject):
    async def work(job: Job) -> JsonObject:
        return result

    async with opened(state_root) as place:
        record = await place.run(work)
    assert record.error is not None
    assert (record.state, record.error["code"]) == ("failed", "internal")


async def test_a_cancelled_job_stops_and_says_so(state_root: Path):
    gate = Gate()
    async with opened(state_root) as place:
        job = await place.jobs.start(ME, "generate_image", {}, gate.work)
        await gate.begun.wait()
        await place.jobs.cancel(job.job_id, ME)
        assert await place.jobs.wait(job.job_id, 30)
        record = await place.jobs.get(job.job_id, ME)
        assert record.error is not None
        assert (record.state, record.error["code"]) == ("cancelled", "cancelled")
        with pytest.raises(FailedPrecondition, match="ended already"):
            await place.jobs.cancel(job.job_id, ME)


async def test_what_came_in_spite_of_a_cancel_is_kept(state_root: Path):
    async def work(job: Job) -> JsonObject:
        job.scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        return {"paid": True}

    async with opened(state_root) as place:
        record = await place.run(work)
    assert (record.state, record.result) == ("completed", {"paid": True})


async def test_a_stopping_daemon_says_that_it_stopped(state_root: Path):
    gate = Gate()
    async with opened(state_root) as place:
        job = await place.jobs.start(ME, "generate_image", {}, gate.work)
        await gate.begun.wait()
    async with opened(state_root) as place:
        record = await place.jobs.get(job.job_id, ME)
    assert record.error is not None
    assert (record.state, record.error["code"]) == ("failed", "aborted")
    assert "daemon stopped" in str(record.error["message"])


async def test_a_foreign_job_looks_like_none(state_root: Path):
    gate = Gate()
    async with opened(state_root) as place:
        job = await place.jobs.start(ME, "generate_image", {}, gate.work)
        refusals = []
        for ask, job_id in ((place.jobs.get, job.job_id), (place.jobs.cancel, job.job_id), (place.jobs.get, "job-x")):
            with pytest.raises(NotFound) as refusal:
                await ask(job_id, YOU)
            refusals.append(refusal.value.as_json())
        assert refusals[0] == refusals[1] == refusals[2]
        gate.go_on.set()
        assert await place.jobs.wait(job.job_id, 30)


async def test_reports_reach_the_record_and_whoever_waits_for_news(state_root: Path):
    gate = Gate()

    async def work(job: Job) -> JsonObject:
        await job.report("half of it")
        result = await gate.work(job)
        await job.report("half of it")
        await job.report("nearly done")
        return result

    async with opened(state_root) as place, opened(state_root) as elsewhere:
        job = await place.jobs.start(ME, "generate_image", {}, work)
        await gate.begun.wait()
        assert (await place.jobs.get(job.job_id, ME)).progress == "half of it"
        assert (await elsewhere.jobs.get(job.job_id, ME)).progress == "half of it"
        told: list[str] = []

        async def watch() -> None:
            while not job.finished.is_set():
                await place.jobs.news(job.job_id, 30)
                told.append(job.progress)

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await anyio.wait_all_tasks_blocked()
            gate.go_on.set()
        assert told == ["nearly done", "nearly done"]
        assert await elsewhere.jobs.wait(job.job_id, 30)
        assert (await elsewhere.jobs.get(job.job_id, ME)).progress == "nearly done"
        await place.jobs.news(job.job_id, 30)


async def test_a_second_call_joins_the_first_and_finds_its_end_until_somebody_has_had_it(state_root: Path):
    gate, call = Gate(), (ME, "generate_image", {"prompt": PROMPT})
    async with opened(state_root) as place, opened(state_root) as elsewhere:
        assert await place.jobs.twin(*call) is None
        first, joined = await place.jobs.start_or_join(*call, gate.work, {"preview": "full"})
        assert not joined
        for jobs in (place.jobs, elsewhere.jobs):
            assert await jobs.start_or_join(*call, answer) == (first, True)
            twin = await jobs.twin(*call)
            assert twin is not None
            assert (twin.job_id, twin.state, twin.wishes) == (first, "working", {"preview": "full"})
        others = [(YOU, *call[1:]), (ME, "edit_image", call[2]), (*call[:2], {"prompt": "another"})]
        for other in others:
            assert await place.jobs.twin(*other) is None
        gate.go_on.set()
        assert await place.jobs.wait(first, 30)
        twin = await elsewhere.jobs.twin(*call)
        assert twin is not None
        assert (twin.job_id, twin.result) == (first, {"answer": 42})
        await place.jobs.mark_delivered(first)
        assert await elsewhere.jobs.twin(*call) is None
        await place.jobs.mark_delivered(first, delivered=False)
        assert await elsewhere.jobs.twin(*call) is not None
        await place.database.change("UPDATE job SET updated_at = updated_at - 601")
        assert await elsewhere.jobs.twin(*call) is None


async def test_a_cancelled_call_is_not_found_by_the_next_one(state_root: Path):
    gate, call = Gate(), (ME, "generate_image", {})
    async with opened(state_root) as place:
        job_id, _ = await place.jobs.start_or_join(*call, gate.work)
        await gate.begun.wait()
        await place.jobs.give_up(job_id, YOU)
        await place.jobs.give_up(job_id, ME)
        assert await place.jobs.wait(job_id, 30)
        assert (await place.jobs.get(job_id, ME)).state == "cancelled"
        assert await place.jobs.twin(*call) is None
        assert (await place.jobs.start_or_join(*call, answer))[0] != job_id


async def test_a_call_that_is_told_to_stop_is_not_joined_any_more(state_root: Path):
    gate, call = Gate(), (ME, "generate_image", {})

    async def slow_to_stop(job: Job) -> JsonObject:
        with anyio.CancelScope(shield=True):
            return await gate.work(job)

    async with opened(state_root) as place:
        job_id, _ = await place.jobs.start_or_join(*call, slow_to_stop)
        await gate.begun.wait()
        await place.jobs.give_up(job_id, ME)
        assert await place.jobs.twin(*call) is None
        other, joined = await place.jobs.start_or_join(*call, answer)
        assert (other != job_id, joined) == (True, False)
        gate.go_on.set()
        assert await place.jobs.wait(job_id, 30)


async def test_a_job_that_others_wait_for_is_not_given_up(state_root: Path):
    gate = Gate()
    async with opened(state_root) as place:
        job = await place.jobs.start(ME, "generate_image", {}, gate.work)
        with place.jobs.attend(job.job_id), place.jobs.attend("job-elsewhere"):
            await place.jobs.give_up(job.job_id, ME)
        gate.go_on.set()
        assert await place.jobs.wait(job.job_id, 30)
        assert (await place.jobs.get(job.job_id, ME)).state == "completed"


async def test_the_call_of_a_killed_process_is_found_as_failed_and_in_doubt(state_root: Path, tmp_path: Path):
    ids = tmp_path / "job"
    assert await anyio.to_thread.run_sync(exit_code_of, die_at_work, state_root, ids) == -signal.SIGKILL
    async with opened(state_root) as place:
        twin = await place.jobs.twin(ME, "generate_image", {"prompt": PROMPT})
        assert twin is not None
        assert (twin.job_id, twin.state) == (await anyio.Path(ids).read_text(), "failed")
        assert twin.error is not None
        assert twin.error["details"] == {"possibly_billed": True}


async def test_a_job_of_another_process_is_seen_but_not_cancelled(state_root: Path):
    gate = Gate()
    async with opened(state_root) as place, opened(state_root) as elsewhere:
        job = await place.jobs.start(ME, "generate_image", {}, gate.work)
        assert (await elsewhere.jobs.get(job.job_id, ME)).state == "working"
        assert not await elsewhere.jobs.wait(job.job_id, 0.01)
        with pytest.raises(FailedPrecondition, match="another process"):
            await elsewhere.jobs.cancel(job.job_id, ME)
        gate.go_on.set()
        assert await elsewhere.jobs.wait(job.job_id, 30)
        assert (await elsewhere.jobs.get(job.job_id, ME)).result == {"answer": 42}


async def test_a_result_is_delivered_after_a_restart(state_root: Path):
    async with opened(state_root) as place:
        before = await place.run(answer)
    async with opened(state_root) as place:
        assert await place.jobs.get(before.job_id, ME) == before
        await place.jobs.mark_delivered(before.job_id)
        assert (await place.jobs.get(before.job_id, ME)).delivered
        assert await place.jobs.wait(before.job_id, 30)


async def test_arguments_are_recognised_and_not_kept(state_root: Path, tmp_path: Path):
    macs = []
    for root in (state_root, tmp_path / "other"):
        async with opened(root) as place:
            await place.run(answer)
            await place.run(answer)
            job = await place.jobs.start(ME, "generate_image", {"prompt": "another"}, answer)
            assert await place.jobs.wait(job.job_id, 30)
            assert place.jobs.mac(PROMPT) == place.jobs.mac(PROMPT) != place.jobs.mac("another")
            macs.append([mac for (mac,) in await place.database.rows("SELECT arguments_mac FROM job")])
            macs[-1].append(place.jobs.mac(PROMPT))
        for path in files(root):
            assert PROMPT.encode() not in path.read_bytes()
    for each in macs:
        assert len(set(each)) == 3
    assert not set(macs[0]) & set(macs[1])


def files(root: Path) -> list[Path]:
    """Every file of a state root."""
    return [path for path in root.rglob("*") if path.is_file()]


async def test_a_full_disk_at_the_end_takes_neither_the_result_nor_the_daemon(state_root: Path):
    gate, disk = Gate(), MemoryDisk("full-at-the-end")

    def full(step: int) -> None:
        raise apsw.FullError

    async with opened(state_root, disk.name) as place:
        job = await place.jobs.start(ME, "generate_image", {}, gate.work)
        await gate.begun.wait()
        disk.fault = full
        gate.go_on.set()
        assert await place.jobs.wait(job.job_id, 30)
        record = await place.jobs.get(job.job_id, ME)
        assert (record.state, record.result) == ("completed", {"answer": 42})
        disk.fault = lambda step: None
        assert (await place.run(answer)).state == "completed"


def die_at_work(root: Path, ids: Path) -> None:
    """A process that is killed with one job at work, one call planned, one sent and one stored."""

    async def main() -> None:
        async with opened(root) as place:
            ledger = Ledger(place.database)

            async def work(job: Job) -> JsonObject:
                rows = [await plan(ledger, job) for _ in range(3)]
                await ledger.sent(rows[1])
                await ledger.stored(rows[2], 0.5, ())
                await anyio.Path(ids).write_text(job.job_id)
                os.kill(os.getpid(), signal.SIGKILL)
                return {}

            await place.run(work)

    anyio.run(main)


async def plan(ledger: Ledger, job: Job) -> int:
    """A row of a job."""
    return await ledger.plan(
        job_id=job.job_id, owner=job.owner, tool=job.tool, route_id="r", provider="openrouter", model="m"
    )


async def at_once(jobs: Jobs) -> None:
    """Nobody does anything before the look at the job."""


@pytest.mark.parametrize(
    ("look", "found"), [(Jobs.open, "failed"), (at_once, "working")], ids=["a daemon starts", "somebody asks"]
)
async def test_the_job_of_a_killed_process_is_closed_with_all_that_it_had_under_way(
    state_root: Path, tmp_path: Path, look: Callable[[Jobs], Awaitable[None]], found: str
):
    gate, ids = Gate(), tmp_path / "job"
    async with opened(state_root) as place:
        mine = await place.jobs.start(ME, "generate_image", {}, gate.work)
        assert await anyio.to_thread.run_sync(exit_code_of, die_at_work, state_root, ids) == -signal.SIGKILL
        job_id = await anyio.Path(ids).read_text()
        await look(Jobs(place.database, place.group))
        assert await place.database.rows("SELECT state FROM job WHERE job_id = ?", job_id) == [(found,)]
        record = await place.jobs.get(job_id, ME)
        assert record.error is not None
        assert (record.state, record.error["code"]) == ("failed", "aborted")
        rows = await place.database.rows("SELECT state, error_code FROM exchange ORDER BY number")
        assert rows == [("failed", "aborted"), ("unknown", "aborted"), ("stored", None)]
        assert await place.jobs.wait(job_id, 30)
        await place.jobs.open()
        assert (await place.jobs.get(mine.job_id, ME)).state == "working"
        gate.go_on.set()
        assert await place.jobs.wait(mine.job_id, 30)
        assert [path.name for path in files(state_root / "processes")] == [
            (await place.jobs.get(mine.job_id, ME)).process
        ]
    assert files(state_root / "processes") == []


async def test_a_process_id_that_is_given_out_again_deceives_nobody(state_root: Path):
    gate = Gate()
    async with opened(state_root) as place:
        job = await place.jobs.start(ME, "generate_image", {}, gate.work)
        process = (await place.jobs.get(job.job_id, ME)).process
        assert process.startswith(f"{os.getpid()}-")
        earlier = f"{os.getpid()}-0000000000000000"
        await place.database.change("UPDATE job SET process = ? WHERE job_id = ?", earlier, job.job_id)
        for leftover in (False, True):
            await place.database.change("UPDATE job SET state = 'working' WHERE job_id = ?", job.job_id)
            if leftover:
                await anyio.Path(state_root / "processes" / earlier).touch()
            assert (await place.jobs.get(job.job_id, ME)).state == "failed"
        gate.go_on.set()
        assert await place.jobs.wait(job.job_id, 30)
        assert (await place.jobs.get(job.job_id, ME)).result == {"answer": 42}


def work_until_told(root: Path, ids: Path, begun: Event, go_on: Event) -> None:
    """A process with a job that waits for another process's word."""

    async def main() -> None:
        async with opened(root) as place:

            async def work(job: Job) -> JsonObject:
                await anyio.Path(ids).write_text(job.job_id)
                begun.set()
                assert await anyio.to_thread.run_sync(go_on.wait, DEADLINE_S)
                return {"answer": 42}

            await place.run(work)

    anyio.run(main)


async def test_a_job_of_a_living_process_is_waited_for_until_it_ends(state_root: Path, tmp_path: Path):
    ids, begun, go_on = tmp_path / "job", SERVED.Event(), SERVED.Event()
    child = started(work_until_told, state_root, ids, begun, go_on)
    try:
        assert await anyio.to_thread.run_sync(begun.wait, DEADLINE_S)
        job_id = await anyio.Path(ids).read_text()
        async with opened(state_root) as place:
            assert not await place.jobs.wait(job_id, 0.01)
            go_on.set()
            assert await place.jobs.wait(job_id, 30)
            assert (await place.jobs.get(job_id, ME)).result == {"answer": 42}
    finally:
        go_on.set()
        await anyio.to_thread.run_sync(child.join, DEADLINE_S)
        child.kill()
    assert child.exitcode == 0


async def test_a_refusal_of_the_store_itself_is_no_job(state_root: Path):
    disk = MemoryDisk("full-at-the-start")
    async with opened(state_root, disk.name) as place:

        def full(step: int) -> None:
            raise apsw.FullError

        disk.fault = full
        with pytest.raises(ResourceExhausted):
            await place.jobs.start(ME, "generate_image", {}, answer)
        assert place.jobs.in_flight == 0


async def test_data_loss_and_abortion_keep_their_codes(state_root: Path):
    async with opened(state_root) as place:
        for refusal in (DataLoss("Cut short."), Aborted("Somebody was first.")):

            async def work(job: Job, refusal: Exception = refusal) -> JsonObject:
                raise refusal

            record = await place.run(work)
            assert record.error == refusal.as_json()


async def test_what_a_session_published_is_read_in_order_by_its_owner_alone(state_root: Path):
    async with Database.open(state_root) as database:
        sessions = SessionStore(database)
        first = await sessions.publish("demo", ME, "One", [{"type": "text", "text": "One"}], [])
        await sessions.publish("other", ME, "Else", [], [])
        await sessions.publish(None, ME, "Loose", [], [])
        second = await sessions.publish("demo", ME, "Two", [], [{"asset_id": "asset-a"}])
        await sessions.publish("demo", YOU, "Theirs", [], [])
    async with Database.open(state_root) as database:
        sessions = SessionStore(database)
        read = await sessions.read("demo", ME)
        outputs = read["outputs"]
        assert isinstance(outputs, list)
        assert read["session"] == "demo"
        assert [(each["output_id"], each["content"]) for each in outputs] == [(first, "One"), (second, "Two")]
        assert outputs[0]["parts"] == [{"type": "text", "text": "One"}]
        assert outputs[1]["artifacts"] == [{"asset_id": "asset-a"}]
        assert first.startswith("output-")
        assert len(first) == len("output-") + 26
        assert await sessions.names(ME) == ("demo", "other")
        with pytest.raises(NotFound):
            await sessions.read("other", YOU)
