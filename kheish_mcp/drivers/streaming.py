"""One answer that comes as a stream of events: who is heard, who keeps silent, and where it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import anyio

from ..errors import DeadlineExceeded
from .refusals import PERHAPS_BILLED
from .sse import Comment, Reader

DONE: Final = b"[DONE]"
LEAVE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stream ended: the provider's id for it, and whether it said itself that it is whole."""

    generation_id: str | None
    done: bool


async def listen(
    parts: AsyncIterator[bytes],
    heard: Callable[[bytes], Awaitable[None]],
    alive: Callable[[], Awaitable[None]],
    *,
    idle_s: float,
    leave_s: float = LEAVE_S,
) -> bool:
    """Awaits `heard` with the data of each event, and `alive` at each comment; gives whether the end mark came.

    DeadlineExceeded after `idle_s` without a byte. Behind the end mark it waits up to `leave_s` for the connection to
    become free for the next request, and for nothing else.
    """
    reader, done = Reader(), False
    while (part := await _next(parts, leave_s if done else idle_s, done)) is not None:
        for told in () if done else reader.feed(part):
            if isinstance(told, Comment):
                await alive()
            elif told.data.strip() == DONE:
                done = True
                break
            else:
                await heard(told.data)
    return done


async def _next(parts: AsyncIterator[bytes], seconds: float, done: bool) -> bytes | None:
    """The next part; None at the end, and after silence behind the end mark."""
    with anyio.move_on_after(seconds):
        return await anext(parts, None)
    if done:
        return None
    raise DeadlineExceeded(
        f"The provider fell silent for {seconds:g} s in the middle of its answer.",
        hint=PERHAPS_BILLED,
        details={"possibly_billed": True},
    )
