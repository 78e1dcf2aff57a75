"""How one call goes: what of it has left, what has come, and the words for whoever waits."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import anyio

from ..capabilities import Exchange

log = logging.getLogger(__name__)

T = TypeVar("T")
TELL_EVERY_S: Final = 5.0


@dataclass(slots=True)
class Course:
    """The marks of a call's latest attempt, which decide what a failure means.

    `begun`: its body has begun to leave; `left`: all of it has left; `in_json`: it was refused in JSON; `held`: what
    has come of a result. `awaited` is what the caller waits for, in words ("the pictures").
    """

    route_id: str
    exchange: Exchange = field(default_factory=Exchange)
    awaited: str = "the answer"
    begun: bool = False
    left: bool = False
    in_json: bool = False
    held: bytearray = field(default_factory=bytearray)
    _doing: str = "connecting"

    def start(self) -> None:
        """A new attempt: nothing of it has left or come."""
        self.begun = self.left = self.in_json = False
        self.held.clear()
        self._doing = "connecting"

    async def leaves(self) -> None:
        """The body is about to leave."""
        await self.exchange.sent()
        self.begun = True
        self._doing = f"waiting for {self.awaited}"
        await self.exchange.progress(f"{self.route_id}: {self._doing}")

    async def is_answered(self, generation_id: str | None) -> None:
        """The answer's headers are there."""
        await self.exchange.responded(generation_id)
        self._doing = f"receiving {self.awaited}"

    async def lives(self) -> None:
        """The provider has shown that it is still there; told at once the first time."""
        before, self._doing = self._doing, f"the provider is at work on {self.awaited}"
        if self._doing != before:
            await self.exchange.progress(f"{self.route_id}: {self._doing}")

    async def rests(self, why: str, seconds: float) -> None:
        """The attempt failed without cost, and another follows after so many seconds."""
        if self.begun:
            await self.exchange.again()
        self.start()
        self._doing = f"{why}; asking again"
        await self.exchange.progress(f"{self.route_id}: {why}; asking again in {seconds:.0f} s")

    async def told(self, work: Callable[[], Awaitable[T]], every_s: float = TELL_EVERY_S) -> T:
        """The result of `work`; until it ends, however it ends, whoever waits is told every so often how it goes."""
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._tell, every_s)
            try:
                result = await work()
            except Exception as error:  # passed on below: out of the group it would come wrapped in another one
                failure = error
            group.cancel_scope.shield = True  # what has come is not lost to whoever leaves at this very moment
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return result

    async def _tell(self, every_s: float) -> None:
        """Tells for ever; who cannot be told any more stops nothing."""
        try:
            while True:
                await anyio.sleep(every_s)
                await self.exchange.progress(f"{self.route_id}: {self._doing}")
        except Exception:
            log.debug("whoever waits could not be told", exc_info=True)
