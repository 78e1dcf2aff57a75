"""Named, durable conversations: what was asked, answered, done and published in each, in order.

The crash story: an entry is one row, so it is there whole or not at all; assets that it names are kept before it. A
run names the process that does it, and whoever comes next finds the run of a dead process interrupted, with every
entry that it had written.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio
import anyio.to_thread

from ..errors import InvalidArgument, Json, JsonObject, KheishError, NotFound
from ..moments import written
from .database import Database, new_id
from .processes import Processes

if TYPE_CHECKING:
    from apsw import Connection

log = logging.getLogger(__name__)

Kind = Literal["input", "answer", "tool", "output"]
End = tuple[str, str | None, float, int]

ENDED: Final = "UPDATE run SET state = ?, error = ?, updated_at = ? WHERE number = ?"
NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
LOOK_EVERY_S: Final = 0.2
LONGEST_SHOWN: Final = 4000  # characters
WRITE: Final = "INSERT INTO entry (owner, session, run_id, kind, body, created_at) VALUES (?, ?, ?, ?, ?, ?)"
EARLIER: Final = (
    "SELECT run_id, process FROM run WHERE owner = ? AND session = ? AND number < ? AND state IN ('queued', 'running')"
)
NO_SESSION: Final = (
    "`kheish-daemon sessions list` shows them; a first input, or an emit_output that names it, begins one."
)


def session_name(text: str) -> str:
    """The text, which has to be a session's name: it stands in URIs."""
    if not re.fullmatch(NAME, text):
        hint = "1 to 128 letters, digits, dots, dashes and underscores, the first one a letter or a digit."
        raise InvalidArgument("This is no name for a session.", hint=hint)
    return text


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal; `run_id` is None for what was published outside of any run."""

    kind: Kind
    run_id: str | None
    body: JsonObject
    created_at: float

    def as_json(self) -> JsonObject:
        """The entry as it is shown, a tool's result cut where it is long."""
        shown: JsonObject = {
            "kind": self.kind,
            "run_id": self.run_id,
            "created_at": written(self.created_at),
            **self.body,
        }
        if self.kind == "tool":
            shown["content"] = str(self.body.get("content", ""))[:LONGEST_SHOWN]
        return shown


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose turn it is in its session."""

    run_id: str
    session: str
    owner: str
    _database: Database

    async def write(self, kind: Kind, body: JsonObject) -> None:
        """One more entry of the journal, on disk when this returns, whoever is cancelled meanwhile."""
        await self._database.change(WRITE, self.owner, self.session, self.run_id, kind, json.dumps(body), time.time())


class SessionStore:
    """The journals of a state root, by owner and session; one run at a time in each, in the order in which they came."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._processes = Processes(database.state_root / "processes")
        self._unwritten: list[End] = []

    def close(self) -> None:
        """Lets go of this process's lock; its runs have to be over."""
        self._processes.leave()

    @asynccontextmanager
    async def turn(
        self, session: str, owner: str, waiting: Callable[[str], Awaitable[None]] | None = None
    ) -> AsyncGenerator[Run]:
        """A run of its own, once all runs that came before it in this session are over, in whatever process.

        `waiting` is told once if it has to wait. The run ends with the block: completed, failed where a refusal
        leaves it, interrupted where it is cancelled.
        """
        run = Run(new_id("run"), session_name(session), owner, self._database)
        number = await self._database.write(lambda connection: self._queue(connection, run))
        state, error = "interrupted", None
        try:
            await self._wait(run, number, waiting)
            yield run
            state = "completed"
        except Exception as failure:
            state = "failed"
            error = json.dumps(
                (failure if isinstance(failure, KheishError) else KheishError("Internal error.")).as_json()
            )
            raise
        finally:
            await self._end((state, error, time.time(), number))

    async def _end(self, end: End) -> None:
        """Puts a run's end on record; where a full disk forbids it, this process's next run does."""
        try:
            await self._database.change(ENDED, *end)
        except KheishError as refusal:
            log.error("the end of a run could not be recorded: %s", refusal.message)
            self._unwritten.append(end)

    def _queue(self, connection: Connection, run: Run) -> int:
        self._processes.enter()
        now = time.time()
        connection.execute(
            "INSERT INTO run (run_id, owner, session, state, process, created_at, updated_at)"
            " VALUES (?, ?, ?, 'queued', ?, ?, ?)",
            (run.run_id, run.owner, run.session, self._processes.own, now, now),
        )
        return connection.last_insert_rowid()

    async def _wait(self, run: Run, number: int, waiting: Callable[[str], Awaitable[None]] | None) -> None:
        """Until no run with a smaller number is under way; no event crosses from another process."""
        while not await self._begun(run, number):
            if waiting is not None:
                await waiting(f"waiting for an earlier run in session {run.session}")
                waiting = None
            await anyio.sleep(LOOK_EVERY_S)

    async def _begun(self, run: Run, number: int) -> bool:
        """Whether it is the run's turn now; ends that are not on record yet are put there first."""
        ends = tuple(self._unwritten)

        def work(connection: Connection) -> bool:
            for end in ends:
                connection.execute(ENDED, end)
            return self._begin(connection, run, number)

        begun = await self._database.write(work)
        self._unwritten = [end for end in self._unwritten if end not in ends]
        return begun

    def _begin(self, connection: Connection, run: Run, number: int) -> bool:
        """Whether it is this run's turn, and then it is on record; runs of dead processes are closed on the way."""
        now = time.time()
        for run_id, process in list(connection.execute(EARLIER, (run.owner, run.session, number))):
            if self._processes.is_alive(process):
                return False
            query = "UPDATE run SET state = 'interrupted', updated_at = ? WHERE run_id = ?"
            connection.execute(query, (now, run_id))
        connection.execute("UPDATE run SET state = 'running', updated_at = ? WHERE number = ?", (now, number))
        return True

    async def publish(
        self,
        session: str | None,
        owner: str,
        content: str,
        parts: Sequence[JsonObject],
        artifacts: Sequence[JsonObject],
    ) -> str:
        """Records an output for good; gives its id. `content` is its text, `parts` and `artifacts` JSON objects in order.

        An output without a session stays on record and belongs to none.
        """
        output_id, now = new_id("output"), time.time()
        body: JsonObject = {
            "output_id": output_id, "content": content, "parts": list(parts), "artifacts": list(artifacts),
        }  # fmt: skip

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO output (output_id, owner, session, content, parts, artifacts, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (output_id, owner, session, content, json.dumps(body["parts"]), json.dumps(body["artifacts"]), now),
            )
            if session is not None:
                connection.execute(WRITE, (owner, session, None, "output", json.dumps(body), now))

        await self._database.write(work)
        return output_id

    async def entries(self, session: str, owner: str) -> tuple[Entry, ...]:
        """The session's journal in order; empty for a session that this owner never used."""
        query = "SELECT kind, run_id, body, created_at FROM entry WHERE owner = ? AND session = ? ORDER BY number"
        found = await self._database.rows(query, owner, session)
        return tuple(Entry(kind, run_id, json.loads(body), created_at) for kind, run_id, body, created_at in found)

    async def read(self, session: str, owner: str) -> JsonObject:
        """The session as JSON: entries in order, runs with their states, outputs; NotFound for one never used."""
        query = (
            "SELECT run_id, state, error, process, created_at FROM run WHERE owner = ? AND session = ? ORDER BY number"
        )
        found = await self._database.rows(query, owner, session)
        runs: list[Json] = [await anyio.to_thread.run_sync(self._shown, row) for row in found]
        entries = await self.entries(session, owner)
        if not entries and not runs:
            raise NotFound("There is no such session.", hint=NO_SESSION)
        outputs = [
            {**entry.body, "created_at": written(entry.created_at)} for entry in entries if entry.kind == "output"
        ]
        return {
            "session": session,
            "entries": [entry.as_json() for entry in entries],
            "runs": runs,
            "outputs": [dict(output) for output in outputs],
        }

    def _shown(self, row: tuple[Any, ...]) -> JsonObject:
        """A run as it is shown; one whose process has died is interrupted, whatever its row still says."""
        run_id, state, error, process, created_at = row
        dead = state in ("queued", "running") and not self._processes.is_alive(process)
        state = "interrupted" if dead else state
        shown: JsonObject = {"run_id": run_id, "state": state, "created_at": written(created_at)}
        return {**shown, "error": json.loads(error)} if error else shown

    async def newest(self) -> int:
        """The number of the journals' newest line."""
        [(number,)] = await self._database.rows("SELECT ifnull(max(number), 0) FROM entry")
        return int(number)

    async def written_since(self, number: int) -> tuple[tuple[str, str], ...]:
        """Each journal, by owner and session, that has a line behind that number."""
        rows = await self._database.rows("SELECT DISTINCT owner, session FROM entry WHERE number > ?", number)
        return tuple((str(owner), str(session)) for owner, session in rows)

    async def overview(self, owner: str) -> list[dict[str, Any]]:
        """Each of the owner's sessions, the one last used first: its name, how many inputs and outputs, and its times."""
        query = (
            "SELECT session, sum(kind = 'input'), sum(kind = 'output'), min(created_at), max(created_at) FROM entry"
            " WHERE owner = ? GROUP BY session ORDER BY max(number) DESC"
        )
        names = ("session", "inputs", "outputs", "created_at", "updated_at")
        found = await self._database.rows(query, owner)
        return [dict(zip(names, (*row[:3], *map(written, row[3:])), strict=True)) for row in found]

    async def names(self, owner: str) -> tuple[str, ...]:
        """The owner's sessions, the one last used first."""
        return tuple(str(row["session"]) for row in await self.overview(owner))
