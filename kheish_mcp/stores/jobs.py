"""Work that outlives the request that asked for it.

The crash story: a job's row is there before its work begins and names the process that does it. A row that is still
`working` when that process is dead becomes `failed` with `aborted`; nothing is ever run again unasked.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from ..errors import Aborted, Cancelled, FailedPrecondition, Json, JsonObject, KheishError, NotFound
from .database import Database, key_of, new_id
from .processes import Processes

if TYPE_CHECKING:
    from apsw import Connection

log = logging.getLogger(__name__)

State = Literal["working", "completed", "failed", "cancelled"]
Listener = Callable[[str], Awaitable[None]]

TABLES: Final = """
    CREATE TABLE job (
        job_id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        tool TEXT NOT NULL,
        arguments_mac TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('working', 'completed', 'failed', 'cancelled')),
        progress TEXT NOT NULL DEFAULT '',
        result TEXT,
        error TEXT,
        delivered INTEGER NOT NULL DEFAULT 0,
        process TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX job_under_way ON job (process) WHERE state = 'working';
"""
MAC_KEY: Final = "jobs.mac"
LOOK_EVERY_S: Final = 0.5
WRITE_EVERY_S: Final = 1.0
QUERY: Final = (
    "SELECT job_id, owner, tool, state, progress, result, error, delivered, process FROM job WHERE job_id = ?"
)
STOPPED: Final = Aborted(
    "The daemon stopped while this job was running.",
    hint="What was sent may have been billed: see `kheish-daemon costs`. What had arrived is an asset.",
).as_json()
CANCELLED: Final = Cancelled("The job was cancelled.").as_json()


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stands.

    `result` is the tool's result object once it is completed, `error` a refusal's object once it is failed or
    cancelled; `delivered` says that a caller has had the result, `process` where it runs or ran.
    """

    job_id: str
    owner: str
    tool: str
    state: State
    progress: str
    result: JsonObject | None
    error: JsonObject | None
    delivered: bool
    process: str


class Job:
    """A job of this process while it runs; `finished` is set once its end is on record."""

    def __init__(self, job_id: str, owner: str, tool: str, write: Callable[[str, str], Awaitable[None]]) -> None:
        self.job_id = job_id
        self.owner = owner
        self.tool = tool
        self.progress = ""
        self.finished = anyio.Event()
        self.scope = anyio.CancelScope()
        self._write = write
        self._written = 0.0
        self._listeners: list[Listener] = []

    @contextmanager
    def listen(self, listener: Listener) -> Generator[None]:
        """Hands every report of the job to `listener` for as long as the block runs."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    async def report(self, sentence: str) -> None:
        """How it goes, for whoever waits; other processes see it within a second or at the next report."""
        self.progress = sentence
        for listener in tuple(self._listeners):
            try:
                await listener(sentence)
            except Exception:  # who listens may have gone, and the work goes on without them
                log.debug("a listener of %s could not be told", self.job_id, exc_info=True)
        if time.monotonic() - self._written >= WRITE_EVERY_S:
            self._written = time.monotonic()
            await self._write(self.job_id, sentence)


class Jobs:
    """The jobs of a state root; those of this process run in `group`, detached from any request.

    A job of any process can be looked at and waited for; only its own process can cancel it. Whoever looks first at a
    job whose process has died closes it.
    """

    def __init__(self, database: Database, group: TaskGroup) -> None:
        self._database = database
        self._group = group
        self._running: dict[str, Job] = {}
        self._unwritten: dict[str, JobRecord] = {}
        self._processes = Processes(database.state_root / "processes")
        self._mac_key = b""

    async def open(self) -> None:
        """Closes the jobs of processes that have died, and removes their files; to be called at the start."""
        known = await self._database.rows("SELECT DISTINCT process FROM job WHERE state = 'working'")
        for process in {str(name) for (name,) in known} | await anyio.to_thread.run_sync(self._processes.names):
            if not await anyio.to_thread.run_sync(self._processes.is_alive, process):
                await self._bury(process)

    def close(self) -> None:
        """Lets go of this process's lock; its jobs have to be over."""
        self._processes.leave()

    @property
    def in_flight(self) -> int:
        """How many jobs run in this process."""
        return len(self._running)

    async def idle(self) -> None:
        """Waits until no job runs in this process."""
        while self._running:
            await next(iter(self._running.values())).finished.wait()

    def mac(self, text: str) -> str:
        """A keyed digest, once a job was started: equal texts are recognised, and short ones cannot be guessed."""
        assert self._mac_key, "a job was started before"
        return hmac.new(self._mac_key, text.encode(), hashlib.sha256).hexdigest()

    async def start(
        self, owner: str, tool: str, arguments: Mapping[str, Any], work: Callable[[Job], Awaitable[JsonObject]]
    ) -> Job:
        """A new job; its row, with a keyed digest of the arguments, is on disk before `work` begins."""
        job = Job(new_id("job"), owner, tool, self._write_progress)
        text, now = json.dumps(arguments, sort_keys=True), time.time()

        def insert(connection: Connection) -> None:
            self._processes.enter()
            self._mac_key = key_of(connection, MAC_KEY)
            connection.execute(
                "INSERT INTO job (job_id, owner, tool, arguments_mac, state, process, created_at, updated_at)"
                " VALUES (?, ?, ?, ?, 'working', ?, ?, ?)",
                (job.job_id, owner, tool, self.mac(text), self._processes.own, now, now),
            )

        await self._database.write(insert)
        self._running[job.job_id] = job
        self._group.start_soon(self._run, job, work)
        return job

    async def wait(self, job_id: str, seconds: float) -> bool:
        """Waits for a job of any process, at most so long; whether it has ended. A waiter that leaves cancels nothing."""
        with anyio.move_on_after(seconds):
            job = self._running.get(job_id)
            if job is not None:
                await job.finished.wait()
            while await self._is_working(job_id):  # noqa: ASYNC110 - no event crosses from another process
                await anyio.sleep(LOOK_EVERY_S)
        return not await self._is_working(job_id)

    async def get(self, job_id: str, owner: str) -> JobRecord:
        """A job of any process, also an earlier one; NotFound for an unknown and for a foreign one alike."""
        record = await self._find(job_id)
        if record is None or record.owner != owner:
            raise NotFound("There is no such job.", hint="Take job_id from the answer of the call that started it.")
        job = self._running.get(job_id)
        return replace(record, progress=job.progress) if job is not None else record

    async def cancel(self, job_id: str, owner: str) -> None:
        """Asks a job of this process to stop; FailedPrecondition where it has ended or runs elsewhere."""
        record = await self.get(job_id, owner)
        job = self._running.get(job_id)
        if job is None:
            where = "runs in another process" if record.state == "working" else "has ended already"
            raise FailedPrecondition(f"The job {where}.", hint="get_job shows how it stands.")
        job.scope.cancel()

    async def mark_delivered(self, job_id: str) -> None:
        """Its result has been given to its caller."""
        await self._database.change("UPDATE job SET delivered = 1 WHERE job_id = ?", job_id)

    async def _find(self, job_id: str) -> JobRecord | None:
        """The record of whatever owner; a job whose process has died is closed first."""
        if job_id in self._unwritten:
            return self._unwritten[job_id]
        for _ in range(2):
            rows = await self._database.rows(QUERY, job_id)
            record = _record(rows[0]) if rows else None
            if record is None or record.state != "working":
                break
            if await anyio.to_thread.run_sync(self._processes.is_alive, record.process):
                break
            await self._bury(record.process)
        return record

    async def _is_working(self, job_id: str) -> bool:
        """Whether somebody is still at it; not so for an id that nobody knows."""
        record = await self._find(job_id)
        return record is not None and record.state == "working"

    async def _run(self, job: Job, work: Callable[[Job], Awaitable[JsonObject]]) -> None:
        # What stands if neither the work nor its canceller says otherwise: the daemon itself is stopping.
        state: State = "failed"
        result: JsonObject | None = None
        error: JsonObject | None = STOPPED
        try:
            with job.scope:
                result, error = _checked(await work(job)), None
                state = "completed"
            if job.scope.cancelled_caught:
                state, error = "cancelled", CANCELLED
        except KheishError as refusal:
            error = refusal.as_json()
        except Exception:
            log.exception("%s of %s failed", job.tool, job.job_id)
            error = KheishError("Internal error.", hint="The daemon's log says more.").as_json()
        finally:
            place = self._processes.own
            ended = JobRecord(job.job_id, job.owner, job.tool, state, job.progress, result, error, False, place)
            await self._finish(ended)

    async def _finish(self, ended: JobRecord) -> None:
        """Puts the end on record, also when the daemon is stopping: a write is shielded from cancellation."""
        query = "UPDATE job SET state = ?, progress = ?, result = ?, error = ?, updated_at = ? WHERE job_id = ?"
        result, error = (json.dumps(value) if value is not None else None for value in (ended.result, ended.error))
        try:
            await self._database.change(query, ended.state, ended.progress, result, error, time.time(), ended.job_id)
        except KheishError as refusal:
            # A full disk must not take what was paid for, nor the daemon, with it.
            log.error("the end of %s could not be recorded: %s", ended.job_id, refusal.message)
            self._unwritten[ended.job_id] = ended
        finally:
            self._running.pop(ended.job_id).finished.set()

    async def _write_progress(self, job_id: str, sentence: str) -> None:
        """For other processes; work that was paid for does not stop because this cannot be written."""
        with suppress(KheishError):
            await self._database.change("UPDATE job SET progress = ? WHERE job_id = ?", sentence, job_id)

    async def _bury(self, process: str) -> None:
        """Closes the jobs of a process that has died; the ledger's trigger closes their exchanges with them."""
        await self._database.change(
            "UPDATE job SET state = 'failed', error = ?, updated_at = ? WHERE state = 'working' AND process = ?",
            json.dumps(STOPPED),
            time.time(),
            process,
        )
        await anyio.to_thread.run_sync(self._processes.forget, process)


def _checked(result: Json) -> JsonObject:
    """The result, which has to be a JSON object through and through."""
    loaded = json.loads(json.dumps(result, allow_nan=False))
    assert isinstance(loaded, dict)
    return loaded


def _record(row: tuple[Any, ...]) -> JobRecord:
    values = [*row[:5], *(json.loads(text) if text else None for text in row[5:7]), bool(row[7]), row[8]]
    return JobRecord(*values)
