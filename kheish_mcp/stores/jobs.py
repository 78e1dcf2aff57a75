"""Work that outlives the request that asked for it."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import TaskGroup

from ..errors import Aborted, Cancelled, JsonObject, KheishError, NotFound
from .database import Database, new_id

if TYPE_CHECKING:
    from apsw import Connection

log = logging.getLogger(__name__)

MAC_KEY: Final = "jobs.mac"
COLUMNS: Final = "job_id, owner, tool, state, progress, result, error, delivered, process"


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stands: state is working, completed, failed or cancelled; `result` and `error` are JSON objects."""

    job_id: str
    owner: str
    tool: str
    state: str
    progress: str
    result: JsonObject | None
    error: JsonObject | None
    delivered: bool
    process: str


class Job:
    """A job of this process while it runs."""

    def __init__(self, job_id: str, owner: str, tool: str) -> None:
        self.job_id = job_id
        self.owner = owner
        self.tool = tool
        self.progress = ""
        self.finished = anyio.Event()
        self.scope = anyio.CancelScope()

    async def report(self, sentence: str) -> None:
        """How it goes, for whoever waits."""
        self.progress = sentence


class Jobs:
    """The jobs of a state root; those of this process run in `group`, detached from any request.

    Each process holds a lock on a file of its own; a job whose process no longer holds its lock was cut off, and is
    shown as failed with `aborted`.
    """

    def __init__(self, state_root: Path, database: Database, group: TaskGroup) -> None:
        self._database = database
        self._group = group
        self._running: dict[str, Job] = {}
        self._folder = state_root / "processes"
        self._process = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._lock: int | None = None
        self._mac_key = b""

    async def open(self) -> None:
        """Takes this process's lock, and closes the jobs of processes that have died."""
        self._mac_key = await self._database.write(_mac_key)
        rows = await self._database.read(
            lambda connection: list(connection.execute("SELECT DISTINCT process FROM job WHERE state = 'working'"))
        )
        for (process,) in rows:
            if not self._alive(str(process)):
                await self._bury(str(process))

    def close(self) -> None:
        """Lets go of this process's lock."""
        if self._lock is not None:
            os.close(self._lock)
            (self._folder / self._process).unlink(missing_ok=True)
            self._lock = None

    @property
    def in_flight(self) -> int:
        """How many jobs run in this process."""
        return len(self._running)

    async def idle(self) -> None:
        """Waits until no job runs in this process."""
        while self._running:
            await next(iter(self._running.values())).finished.wait()

    def mac(self, text: str) -> str:
        """A keyed digest: equal texts are recognised as equal, and short ones cannot be guessed from it."""
        return hmac.new(self._mac_key, text.encode(), hashlib.sha256).hexdigest()

    async def start(
        self, owner: str, tool: str, arguments: Mapping[str, Any], work: Callable[[Job], Awaitable[JsonObject]]
    ) -> Job:
        """A new job; its row is on disk before `work` begins."""
        self._hold_lock()
        job = Job(new_id("job"), owner, tool)
        now = time.time()
        digest = self.mac(json.dumps(arguments, sort_keys=True))
        values = (job.job_id, owner, tool, digest, self._process, now, now)

        def insert(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO job (job_id, owner, tool, arguments_mac, state, process, created_at, updated_at)"
                " VALUES (?, ?, ?, ?, 'working', ?, ?, ?)",
                values,
            )

        await self._database.write(insert)
        self._running[job.job_id] = job
        self._group.start_soon(self._run, job, work)
        return job

    async def wait(self, job_id: str, seconds: float) -> bool:
        """Waits for a job of this process, at most so long; whether it has ended. A waiter that leaves cancels nothing."""
        job = self._running.get(job_id)
        with anyio.move_on_after(seconds):
            if job is not None:
                await job.finished.wait()
                return True
            await anyio.sleep(min(seconds, 1.0))
        return False

    async def get(self, job_id: str, owner: str) -> JobRecord:
        """A job of any process, also an earlier one; NotFound for an unknown and for a foreign one alike."""
        query = f"SELECT {COLUMNS} FROM job WHERE job_id = ? AND owner = ?"  # noqa: S608 - our columns
        rows = await self._database.read(lambda connection: list(connection.execute(query, (job_id, owner))))
        if not rows:
            raise NotFound("There is no such job.", hint="Take job_id from the answer of the call that started it.")
        record = _record(rows[0])
        if record.state == "working" and not self._alive(record.process):
            await self._bury(record.process)
            return await self.get(job_id, owner)
        return record

    def progress(self, job_id: str) -> str:
        """How a job of this process goes."""
        job = self._running.get(job_id)
        return job.progress if job is not None else ""

    async def cancel(self, job_id: str, owner: str) -> None:
        """Asks a job of this process to stop."""
        job = self._running.get(job_id)
        if job is None or job.owner != owner:
            raise NotFound("There is no such job here.", hint="It may have ended already: see get_job.")
        job.scope.cancel()

    async def mark_delivered(self, job_id: str) -> None:
        """Its result has been given to its caller."""
        query = "UPDATE job SET delivered = 1 WHERE job_id = ?"
        await self._database.write(lambda connection: connection.execute(query, (job_id,)) and None)

    async def _run(self, job: Job, work: Callable[[Job], Awaitable[JsonObject]]) -> None:
        state, result, error = "cancelled", None, Cancelled("The job was cancelled.").as_json()
        try:
            with job.scope:
                result = await work(job)
                state, error = "completed", {}
        except KheishError as refusal:
            state, error = "failed", refusal.as_json()
        except Exception:
            log.exception("%s of %s failed", job.tool, job.job_id)
            state, error = "failed", KheishError("Internal error.", hint="The daemon's log says more.").as_json()
        finally:
            with anyio.CancelScope(shield=True):
                await self._finish(job, state, result, error or None)

    async def _finish(self, job: Job, state: str, result: JsonObject | None, error: JsonObject | None) -> None:
        values = (
            state,
            job.progress,
            json.dumps(result) if result is not None else None,
            json.dumps(error) if error is not None else None,
            time.time(),
            job.job_id,
        )
        query = "UPDATE job SET state = ?, progress = ?, result = ?, error = ?, updated_at = ? WHERE job_id = ?"
        try:
            await self._database.write(lambda connection: connection.execute(query, values) and None)
        finally:
            self._running.pop(job.job_id, None)
            job.finished.set()

    def _hold_lock(self) -> None:
        if self._lock is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._folder / self._process, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def _alive(self, process: str) -> bool:
        """Whether a process still holds its lock; the system lets go of it however the process ends."""
        if process == self._process:
            return True
        try:
            descriptor = os.open(self._folder / process, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    async def _bury(self, process: str) -> None:
        """Closes the jobs and the open ledger rows of a process that has died."""
        error = json.dumps(
            Aborted(
                "The daemon stopped while this job was running.",
                hint="What was sent may have been billed: see `kheish-daemon costs`. What had arrived is an asset.",
            ).as_json()
        )

        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE exchange SET state = CASE state WHEN 'planned' THEN 'failed' ELSE 'unknown' END,"
                " error_code = 'aborted', updated_at = ? WHERE state IN ('planned', 'sent', 'responded')"
                " AND job_id IN (SELECT job_id FROM job WHERE process = ?)",
                (time.time(), process),
            )
            connection.execute(
                "UPDATE job SET state = 'failed', error = ?, updated_at = ? WHERE state = 'working' AND process = ?",
                (error, time.time(), process),
            )

        await self._database.write(work)
        (self._folder / process).unlink(missing_ok=True)


def _mac_key(connection: Connection) -> bytes:
    connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (MAC_KEY, secrets.token_bytes(32)))
    [(key,)] = connection.execute("SELECT value FROM meta WHERE key = ?", (MAC_KEY,))
    return bytes(key)


def _record(row: tuple[Any, ...]) -> JobRecord:
    job_id, owner, tool, state, progress, result, error, delivered, process = row
    return JobRecord(
        job_id,
        owner,
        tool,
        state,
        progress,
        json.loads(result) if result else None,
        json.loads(error) if error else None,
        bool(delivered),
        process,
    )
