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
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from ..errors import Aborted, Cancelled, FailedPrecondition, Json, JsonObject, KheishError, NotFound
from .database import Database, key_of, new_id
from .job import COLUMNS, State, record_of
from .job import Job as Job
from .job import JobRecord as JobRecord
from .processes import Processes

if TYPE_CHECKING:
    from apsw import Connection

log = logging.getLogger(__name__)

Work: TypeAlias = Callable[[Job], Awaitable[JsonObject]]

MAC_KEY: Final = "jobs.mac"
LOOK_EVERY_S: Final = 0.5
REMEMBERED_S: Final = 600.0
QUERY: Final = f"SELECT {COLUMNS} FROM job WHERE job_id = ?"  # noqa: S608 - our own columns
TWINS: Final = (
    f"SELECT {COLUMNS} FROM job WHERE owner = ? AND tool = ? AND arguments_mac = ?"  # noqa: S608 - our own columns
    " AND (state = 'working' OR (state IN ('completed', 'failed') AND delivered = 0 AND updated_at >= ?))"
    " ORDER BY created_at DESC"
)
BURY: Final = "UPDATE job SET state = 'failed', error = ?, updated_at = ? WHERE state = 'working' AND process = ?"
STOPPED: Final = Aborted(
    "The daemon stopped while this job was running.",
    hint="What was sent may have been billed: see `kheish-daemon costs`. What had arrived is an asset.",
    details={"possibly_billed": True},
).as_json()
CANCELLED: Final = Cancelled("The job was cancelled.").as_json()


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
        self._waits: set[anyio.CancelScope] = set()
        self.is_released = False
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
        self,
        owner: str,
        tool: str,
        arguments: Mapping[str, Any],
        work: Work,
        wishes: Mapping[str, Json] = MappingProxyType({}),
    ) -> Job:
        """A new job; its row, with a keyed digest of the arguments, is on disk before `work` begins."""
        job = self._new(owner, tool, wishes)
        await self._database.write(lambda connection: self._insert(connection, job, arguments))
        self._begin(job, work)
        return job

    async def start_or_join(
        self,
        owner: str,
        tool: str,
        arguments: Mapping[str, Any],
        work: Work,
        wishes: Mapping[str, Json] = MappingProxyType({}),
    ) -> tuple[str, bool]:
        """As `start`, unless the same call is under way in a living process: then that job.

        Gives the job's id, and whether it was joined.
        """
        job = self._new(owner, tool, wishes)

        def insert_or_find(connection: Connection) -> str:
            for twin in self._twins(connection, owner, tool, arguments):
                if twin.state == "working" and self._goes_on(twin):
                    return twin.job_id
            self._insert(connection, job, arguments)
            return job.job_id

        job_id = await self._database.write(insert_or_find)
        joined = job_id != job.job_id
        if not joined:
            self._begin(job, work)
        return job_id, joined

    async def twin(self, owner: str, tool: str, arguments: Mapping[str, Any]) -> JobRecord | None:
        """The newest job of the same call that is under way, or that ended lately and whose end nobody has had."""
        found = await self._database.write(lambda connection: self._twins(connection, owner, tool, arguments))
        for each in found:
            record = await self._find(each.job_id)
            is_open = record is not None and record.state != "cancelled" and not record.delivered
            if record is not None and is_open and (record.state != "working" or self._goes_on(record)):
                return record
        return None

    def _goes_on(self, record: JobRecord) -> bool:
        """Whether a job under way is one to join: its process lives, and it has not been told to stop."""
        return self._processes.is_alive(record.process) and not self.is_stopping(record.job_id)

    def is_stopping(self, job_id: str) -> bool:
        """Whether a job of this process has been told to stop, and has not ended yet."""
        job = self._running.get(job_id)
        return job is not None and job.scope.cancel_called

    async def wait(self, job_id: str, seconds: float) -> bool:
        """Waits for a job of any process, at most so long; whether it has ended. A waiter that leaves cancels nothing."""
        with self._waiting(seconds):
            job = self._running.get(job_id)
            if job is not None:
                await job.finished.wait()
            while await self._is_working(job_id):  # noqa: ASYNC110 - no event crosses from another process
                await anyio.sleep(LOOK_EVERY_S)
        return not await self._is_working(job_id)

    async def news(self, job_id: str, seconds: float) -> None:
        """Waits, at most so long, for a job's end, or for another sentence of a job of this process."""
        job = self._running.get(job_id)
        if job is None:
            await self.wait(job_id, seconds)
            return
        with self._waiting(seconds):
            await job.news()

    def attend(self, job_id: str) -> AbstractContextManager[None]:
        """Somebody waits for a job for as long as the block runs; of another process's job nobody takes note."""
        job = self._running.get(job_id)
        return job.attend() if job is not None else nullcontext()

    def release(self) -> None:
        """Ends every wait, and from now on each at once: the daemon is stopping, and its callers are to be answered."""
        self.is_released = True
        for waiting in self._waits:
            waiting.cancel()

    @contextmanager
    def _waiting(self, seconds: float) -> Generator[None]:
        with anyio.move_on_after(0 if self.is_released else seconds) as waiting:
            self._waits.add(waiting)
            try:
                yield
            finally:
                self._waits.discard(waiting)

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

    async def give_up(self, job_id: str, owner: str) -> None:
        """Stops a job whose caller wants it no more, unless others wait for it, it has ended or runs elsewhere."""
        job = self._running.get(job_id)
        if job is not None and job.owner == owner and not job.attended:
            job.scope.cancel()

    async def mark_delivered(self, job_id: str, *, delivered: bool = True) -> None:
        """Its end has been given to its caller, or has not after all."""
        await self._database.change("UPDATE job SET delivered = ? WHERE job_id = ?", delivered, job_id)

    def _new(self, owner: str, tool: str, wishes: Mapping[str, Json]) -> Job:
        return Job(new_id("job"), owner, tool, dict(wishes), self._write_progress)

    def _insert(self, connection: Connection, job: Job, arguments: Mapping[str, Any]) -> None:
        self._processes.enter()
        connection.execute(
            "INSERT INTO job (job_id, owner, tool, arguments_mac, state, process, created_at, updated_at, wishes)"
            " VALUES (?, ?, ?, ?, 'working', ?, ?, ?, ?)",
            (job.job_id, job.owner, job.tool, self._digest(connection, arguments), self._processes.own,
             job.started, job.started, json.dumps(job.wishes)),
        )  # fmt: skip

    def _begin(self, job: Job, work: Work) -> None:
        self._running[job.job_id] = job
        self._group.start_soon(self._run, job, work)

    def _digest(self, connection: Connection, arguments: Mapping[str, Any]) -> str:
        self._mac_key = key_of(connection, MAC_KEY)
        return self.mac(json.dumps(arguments, sort_keys=True))

    def _twins(self, connection: Connection, owner: str, tool: str, arguments: Mapping[str, Any]) -> list[JobRecord]:
        values = (owner, tool, self._digest(connection, arguments), time.time() - REMEMBERED_S)
        return [record_of(row) for row in connection.execute(TWINS, values)]

    async def _find(self, job_id: str) -> JobRecord | None:
        """The record of whatever owner; a job whose process has died is closed first."""
        if job_id in self._unwritten:
            return self._unwritten[job_id]
        for _ in range(2):
            rows = await self._database.rows(QUERY, job_id)
            record = record_of(rows[0]) if rows else None
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

    async def _run(self, job: Job, work: Work) -> None:
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
            await self._finish(job, state, result, error)

    async def _finish(self, job: Job, state: State, result: JsonObject | None, error: JsonObject | None) -> None:
        """Puts the end on record, also when the daemon is stopping: a write is shielded from cancellation."""
        query = "UPDATE job SET state = ?, progress = ?, result = ?, error = ?, updated_at = ? WHERE job_id = ?"
        texts = [json.dumps(value) if value is not None else None for value in (result, error)]
        now = time.time()
        try:
            await self._database.change(query, state, job.last_words(state), *texts, now, job.job_id)
        except KheishError as refusal:
            # A full disk must not take what was paid for, nor the daemon, with it.
            log.error("the end of %s could not be recorded: %s", job.job_id, refusal.message)
            self._unwritten[job.job_id] = job.ended(state, result, error, self._processes.own, now)
        finally:
            self._running.pop(job.job_id).end()

    async def _write_progress(self, job_id: str, sentence: str) -> None:
        """For other processes; work that was paid for does not stop because this cannot be written."""
        with suppress(KheishError):
            await self._database.change("UPDATE job SET progress = ? WHERE job_id = ?", sentence, job_id)

    async def _bury(self, process: str) -> None:
        """Closes the jobs of a process that has died; the ledger's trigger closes their exchanges with them."""
        await self._database.change(BURY, json.dumps(STOPPED), time.time(), process)
        await anyio.to_thread.run_sync(self._processes.forget, process)


def _checked(result: Json) -> JsonObject:
    """The result, which has to be a JSON object through and through."""
    loaded = json.loads(json.dumps(result, allow_nan=False))
    assert isinstance(loaded, dict)
    return loaded
