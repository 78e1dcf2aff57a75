"""How an answer's bytes travel: whole, in drips, in odd parts, with a long pause, cut in the middle, or not at all."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.emulators.provider.answers import COMMENT, Answer
from tests.emulators.provider.origins import reset

DRIP = 64
ODD_SIZES = (1, 2, 3, 1021)
SLICE = 1 << 18  # so that a client who leaves while it reads is noticed
READING_TIME = 0.05
BEAT = 0.02


@dataclass(frozen=True, slots=True)
class Line:
    """One exchange's wire: `gone` is done once the client has left, `go_on` ends every pause, `pay` writes the bill."""

    transport: asyncio.Transport
    send: Any
    gone: asyncio.Future[None]
    go_on: asyncio.Event
    pay: Callable[[], None]

    async def pause(self, seconds: float | None) -> None:
        """Waits so long, or without end for None."""
        released = asyncio.ensure_future(self.go_on.wait())
        await asyncio.wait([self.gone, released], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        released.cancel()

    async def piece(self, data: bytes, more: bool = True) -> None:
        """Sends a part of the body, or its end."""
        await self.send({"type": "http.response.body", "body": data, "more_body": more})


async def watch(receive: Any) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def deliver(answer: Answer, line: Line) -> None:
    """Sends the answer in its own way, and has it paid before the client can know that it is whole."""
    if answer.delivery in ("nothing", "reset-before"):
        await send_nothing(answer, line)
        return
    body = answer.content()
    await line.send({"type": "http.response.start", "status": answer.status, "headers": head(answer, len(body))})
    if answer.delivery in ("cut", "reset-after"):
        line.pay()
        await break_off(answer, body, line)
    else:
        await send_parts(answer, body, line)


async def send_nothing(answer: Answer, line: Line) -> None:
    """A RST in the place of a status line, or silence for a client who has left."""
    if answer.delivery == "reset-before":
        line.pay()
        reset(line.transport)
    await asyncio.wait([line.gone])


def head(answer: Answer, length: int) -> list[tuple[bytes, bytes]]:
    """The headers, with the length of the whole body where it is known from the start."""
    open_ended = answer.events or answer.delivery == "keep-alive"
    headers = {"content-type": answer.media_type} | ({} if open_ended else {"content-length": str(length)})
    return [(name.encode(), value.encode()) for name, value in {**headers, **answer.headers}.items()]


async def send_parts(answer: Answer, body: bytes, line: Line) -> None:
    """One part after another for as long as anybody listens; whole answers are paid first, streams before their end."""
    if not answer.events and answer.delivery != "keep-alive":
        line.pay()
    if answer.delivery == "keep-alive":
        await keep_alive(answer, line)
        if line.gone.done():
            return
    parts = list(split(answer, body))
    for at, part in enumerate(parts):
        if line.gone.done():
            if not answer.cancellable:
                line.pay()
            return
        if at == len(parts) - 1:
            line.pay()
        await line.piece(part, more=at < len(parts) - 1)
        await between(answer, at, line)


async def between(answer: Answer, at: int, line: Line) -> None:
    """The pause after a part: short in a drip, endless in the middle of a stall."""
    if answer.delivery == "drip":
        await line.pause(answer.pause)
    elif answer.delivery == "stall" and at == 0:
        await line.pause(None)


def split(answer: Answer, body: bytes) -> Iterator[bytes]:
    """The body's parts, at least one."""
    if answer.delivery == "stall":
        return iter((body[: len(body) // 2], body[len(body) // 2 :]))
    if answer.delivery == "odd":
        return chopped(body.replace(b"\n", b"\r\n") if answer.events else body, itertools.cycle(ODD_SIZES))
    if answer.delivery == "drip":
        return chopped(body, itertools.repeat(DRIP))
    return iter(answer.events) if answer.events else chopped(body, itertools.repeat(SLICE))


def chopped(body: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    """Parts of these sizes; one empty part for an empty body."""
    start = 0
    while start < len(body) or start == 0:
        size = next(sizes)
        yield body[start : start + size]
        start += size


async def keep_alive(answer: Answer, line: Line) -> None:
    """Signs of life and nothing else until `go_on`: comments in a stream, white space before JSON."""
    while not line.gone.done() and not line.go_on.is_set():
        await line.piece(COMMENT if answer.events else b" ")
        await line.pause(BEAT)


async def break_off(answer: Answer, body: bytes, line: Line) -> None:
    """Headers alone and a RST, or half the body and a FIN."""
    if answer.delivery == "cut":
        await line.piece(body[: len(body) // 2])
        line.transport.close()
    else:
        await asyncio.sleep(READING_TIME)  # a RST throws away what the client has not read yet
        reset(line.transport)
    await asyncio.wait([line.gone])
