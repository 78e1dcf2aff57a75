"""One job: as it stands on record, and as it runs in its own process."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import anyio

from ..errors import JsonObject

State = Literal["working", "completed", "failed", "cancelled"]

WRITE_EVERY_S: Final = 1.0
COLUMNS: Final = (
    "job_id, owner, tool, state, progress, result, error, delivered, process, wishes, created_at, updated_at"
)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stands.

    `result` is the tool's result object once it is completed, `error` a refusal's object once it is failed or
    cancelled; `delivered` says that a caller has had the end, `process` where it runs or ran. `wishes` is what its
    caller wanted done with the result; times are epoch seconds.
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
    wishes: JsonObject
    created_at: float
    updated_at: float


class Job:
    """A job of this process while it runs; `finished` is set once its end is on record.

    `attended` is how many callers wait for it just now.
    """

    def __init__(
        self, job_id: str, owner: str, tool: str, wishes: JsonObject, write: Callable[[str, str], Awaitable[None]]
    ) -> None:
        self.job_id = job_id
        self.owner = owner
        self.tool = tool
        self.wishes = wishes
        self.progress = self.words = ""
        self.started = time.time()
        self.finished = anyio.Event()
        self.scope = anyio.CancelScope()
        self.attended = 0
        self._news = anyio.Event()
        self._write = write
        self._written = 0.0

    async def report(self, sentence: str) -> None:
        """How it goes, for whoever waits; other processes see it within a second or at the next report."""
        if sentence != self.progress:
            self.progress = sentence
            self._tell()
        if time.monotonic() - self._written >= WRITE_EVERY_S:
            self._written = time.monotonic()
            await self._write(self.job_id, sentence)

    async def keep(self, words: str) -> None:
        """Words that were paid for: should the job break off, they are what is known of how it went."""
        self.words = words
        await self._write(self.job_id, words)

    async def news(self) -> None:
        """Returns at the next sentence that is another one, and at the job's end."""
        if not self.finished.is_set():
            await self._news.wait()

    def end(self) -> None:
        """Its end is on record."""
        self.finished.set()
        self._tell()

    @contextmanager
    def attend(self) -> Generator[None]:
        """Somebody waits for it for as long as the block runs."""
        self.attended += 1
        try:
            yield
        finally:
            self.attended -= 1

    def ended(
        self, state: State, result: JsonObject | None, error: JsonObject | None, process: str, now: float
    ) -> JobRecord:
        """What its row would say once it has ended."""
        return JobRecord(
            self.job_id, self.owner, self.tool, state, self.last_words(state), result, error, False, process, self.wishes,
            self.started, now,
        )  # fmt: skip

    def last_words(self, state: State) -> str:
        """What its row says of how it went, once it has ended."""
        return self.progress if state == "completed" else self.words or self.progress

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()


def record_of(row: tuple[Any, ...]) -> JobRecord:
    """The record of a row of COLUMNS."""
    texts = [json.loads(text) if text else None for text in row[5:7]]
    values = [*row[:5], *texts, bool(row[7]), row[8], json.loads(row[9]), *row[10:]]
    return JobRecord(*values)
