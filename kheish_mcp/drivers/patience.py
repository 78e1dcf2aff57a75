"""Which failures are tried again, and after how long: only those that cannot have been billed, and never for long."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import anyio

from ..errors import Json, KheishError
from .course import Course

T = TypeVar("T")
TWICE, ONCE, NEVER = 2, 1, 0
SHORTEST_S: Final = 0.5
CEILINGS_S: Final = (2.0, 8.0)
LONGEST_S: Final = 60.0
JITTER_S: Final = 0.5
WINDOW_S: Final = 60.0
RESERVE, CALLS_PER_RETRY = 10, 10
WHY: Final[dict[Json, str]] = {429: "too many requests", 502: "it failed", 503: "it is overloaded"}


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds that only grow, a wait of so many, and a chance from 0 up to 1: a test brings its own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    chance: Callable[[], float] = random.random


def further_tries(refusal: KheishError, course: Course) -> int:
    """How many more attempts a failure allows.

    Twice where nothing had left, and for a 429 or 503 that says when to come back; once for a 502 or 503 in JSON, which
    is OpenRouter's own word that nothing came of it (2026-11-22). Never after what may have been billed: a 200, a
    reset, a timeout.
    """
    if refusal.details.get("possibly_billed") or not refusal.retryable:
        return NEVER
    status = refusal.details.get("status")
    if status is None:
        return NEVER if course.begun else TWICE
    if status in (429, 503) and refusal.retry_after_s is not None:
        return TWICE
    return ONCE if status in (502, 503) and course.in_json else NEVER


class Budget:
    """How many retries a minute may see: one for ten calls, and ten in any case, so that no outage is made worse."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._calls: deque[float] = deque()
        self._retries: deque[float] = deque()

    def count_call(self) -> None:
        """A call begins."""
        self._calls.append(self._now())
        self._forget()

    def take(self) -> bool:
        """Whether one more retry is within the budget; it is counted if so."""
        self._forget()
        allowed = len(self._retries) < max(RESERVE, len(self._calls) // CALLS_PER_RETRY)
        if allowed:
            self._retries.append(self._now())
        return allowed

    def _forget(self) -> None:
        """Drops what is older than the window."""
        for times in (self._calls, self._retries):
            while times and self._now() - times[0] > WINDOW_S:
                times.popleft()


class Patience:
    """What one route's calls share: the clock and the budget of retries."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._budget = Budget(clock.now)

    async def repeat(self, attempt: Callable[[], Awaitable[T]], course: Course, deadline_s: float) -> T:
        """The first attempt that works, or the last one's refusal; each retry is told and written down beforehand."""
        started = self._clock.now()
        self._budget.count_call()
        made = 0
        while True:
            try:
                return await attempt()
            except KheishError as refusal:
                wait = self._wait(refusal, course, made)
                spent = self._clock.now() - started
                # An attempt that is cut off by the deadline may be billed: at least half of the time has to be left.
                if wait is None or spent + wait > deadline_s / 2 or not self._budget.take():
                    raise
                why = WHY.get(refusal.details.get("status"), "it cannot be reached")
            await course.rests(why, wait)
            await self._clock.sleep(wait)
            made += 1

    def _wait(self, refusal: KheishError, course: Course, made: int) -> float | None:
        """Seconds to wait before the next attempt: as told, else drawn by lot; None where there is no next one."""
        if made >= further_tries(refusal, course):
            return None
        stated, chance = refusal.retry_after_s, self._clock.chance()
        if stated is None:
            return SHORTEST_S + chance * (CEILINGS_S[made] - SHORTEST_S)
        return stated + chance * JITTER_S if stated <= LONGEST_S else None
