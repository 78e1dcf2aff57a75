"""An answer that is all there is on its stream goes out as plain JSON."""

from __future__ import annotations

import re
from typing import Final

from starlette.types import Message, Send

EVENT, END = b"event: message\r\ndata: ", b"\r\n\r\n"
# As the SDK writes an answer, and neither a notification nor a request of the server's.
ANSWER: Final = re.compile(rb'\{"jsonrpc":"2\.0","id":(?:null|-?[0-9]+|"(?:[^"\\]|\\.)*"),"(?:result|error)":')
STREAM: Final = (b"content-type", b"text/event-stream")


def single(send: Send) -> Send:
    """A `send` for the handshake era's transport, which opens an event stream for every request (mcp 2.3.0).

    The start is held until something is on the stream: progress, or after 15 s a ping, opens it as it was meant. An
    answer alone costs half as much without, and is not cut off by clients that take a mebibyte an event and no more
    (Python SDK 2.3 with httpx2 2.16).
    """
    held: list[Message] = []
    is_over = False

    async def sent(message: Message) -> None:
        nonlocal is_over
        if message["type"] == "http.response.start" and _is_stream(message):
            held.append(message)
        elif held:
            is_over = await _begin(send, held.pop(), message)
        elif not is_over:
            await send(message)

    return sent


async def _begin(send: Send, start: Message, first: Message) -> bool:
    """Sends a stream's first piece, or the answer alone; whether that was all."""
    answer = _answer_in(first.get("body", b""))
    if answer is None:
        await send(start)
        await send(first)
        return False
    kept = [(name, value) for name, value in start["headers"] if name.lower() not in (b"content-type", b"connection")]
    length = (b"content-length", str(len(answer)).encode())
    await send({**start, "headers": [*kept, (b"content-type", b"application/json"), length]})
    await send({"type": "http.response.body", "body": answer})
    return True


def _is_stream(start: Message) -> bool:
    return start["status"] == 200 and any(
        name.lower() == STREAM[0] and value.startswith(STREAM[1]) for name, value in start["headers"]
    )


def _answer_in(piece: bytes) -> bytes | None:
    """The answer in a piece that is one event with one, whole."""
    if not piece.startswith(EVENT) or not piece.endswith(END):
        return None
    data = piece[len(EVENT) : -len(END)]
    return data if ANSWER.match(data) and b"\n" not in data else None
