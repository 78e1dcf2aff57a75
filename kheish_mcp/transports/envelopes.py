"""What is no JSON-RPC message at all is answered as JSON-RPC asks: -32600."""

from __future__ import annotations

import json
from typing import Any, Final

from mcp_types import INVALID_PARAMS, INVALID_REQUEST
from starlette.types import Message, Send

ANSWER: Final = json.dumps(
    {"jsonrpc": "2.0", "id": None, "error": {"code": INVALID_REQUEST, "message": "The body is no JSON-RPC message."}}
).encode()


def mending(send: Send) -> Send:
    """A `send` for the handshake era's transport, which answers -32602 and quotes the body (mcp 2.3.0, python-sdk#3557).

    An error without an id is never about a request's parameters: then nothing of the request was understood.
    """
    held: list[Message] = []

    async def mended(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 400:
            held.append(message)
            return
        if held:
            start = held.pop()
            if _is_about_envelope(message.get("body", b"")):
                start, message = _with_length(start, len(ANSWER)), {**message, "body": ANSWER}
            await send(start)
        await send(message)

    return mended


def _is_about_envelope(body: bytes) -> bool:
    try:
        answer: dict[str, Any] = json.loads(body)
        return answer["id"] is None and answer["error"]["code"] == INVALID_PARAMS
    except (ValueError, KeyError, TypeError):
        return False


def _with_length(start: Message, length: int) -> Message:
    kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
    return {**start, "headers": [*kept, (b"content-length", str(length).encode())]}
