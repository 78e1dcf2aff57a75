"""How an answer's bytes travel: whole, in drips, cut in the middle, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.emulators.provider.answers import Answer
from tests.emulators.provider.origins import reset

DRIP = 64
READING_TIME = 0.05


async def watch(receive: Any) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def deliver(answer: Answer, transport: asyncio.Transport, send: Any, gone: asyncio.Future[None]) -> None:
    """Sends the answer in its own way; `gone` is done once the client has left."""
    if answer.delivery == "reset-before":
        reset(transport)
    if answer.delivery in ("hang", "reset-before"):
        await asyncio.wait([gone])
        return
    body = answer.content()
    await send({"type": "http.response.start", "status": answer.status, "headers": head(answer, len(body))})
    if answer.delivery == "drip":
        await drip(body, answer.pause, send, gone)
    elif answer.delivery == "whole":
        await send({"type": "http.response.body", "body": body})
    else:
        await break_off(answer, body, transport, send)
        await asyncio.wait([gone])


def head(answer: Answer, length: int) -> list[tuple[bytes, bytes]]:
    """The headers, with the length of the whole body."""
    headers = {"content-type": answer.media_type, "content-length": str(length), **answer.headers}
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def drip(body: bytes, pause: float, send: Any, gone: asyncio.Future[None]) -> None:
    """A few bytes at a time, for as long as anybody listens."""
    for start in range(0, len(body), DRIP):
        await send({"type": "http.response.body", "body": body[start : start + DRIP], "more_body": True})
        await asyncio.wait([gone], timeout=pause)
        if gone.done():
            return
    await send({"type": "http.response.body"})


async def break_off(answer: Answer, body: bytes, transport: asyncio.Transport, send: Any) -> None:
    """Headers alone and a RST, or half the body and a FIN."""
    if answer.delivery == "cut":
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        transport.close()
        return
    await asyncio.sleep(READING_TIME)  # a RST throws away what the client has not read yet
    reset(transport)
