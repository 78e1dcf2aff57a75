"""One answer that comes as a stream of events: who is heard, who keeps silent, and where it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
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
    reader = Reader()
    while (part := await _next(parts, idle_s)) is not None:
        for told in reader.feed(part):
            if isinstance(told, Comment):
                await alive()
            elif told.data.strip() == DONE:
                await _read_out(parts, leave_s)
                return True
            else:
                await heard(told.data)
    return False


async def _read_out(parts: AsyncIterator[bytes], seconds: float) -> None:
    """Whatever comes behind the end mark is not heard, but only a connection that was read to its end can serve again."""
    import httpx2

    with anyio.move_on_after(seconds), suppress(httpx2.HTTPError):
        async for _ in parts:
            pass


async def _next(parts: AsyncIterator[bytes], seconds: float) -> bytes | None:
    """The next part; None at the end, DeadlineExceeded after so much silence."""
    with anyio.move_on_after(seconds):
        return await anext(parts, None)
    raise DeadlineExceeded(
        f"The provider fell silent for {seconds:g} s in the middle of its answer.",
        hint=PERHAPS_BILLED,
        details={"possibly_billed": True},
    )
