"""What an endpoint is asked and what it answers, before a fault or the wire touches either."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Delivery = Literal["whole", "cut", "drip", "stall", "odd", "keep-alive", "reset-before", "reset-after", "nothing"]
COMMENT = b": OPENROUTER PROCESSING\n\n"
DONE = b"data: [DONE]\n\n"
EVENTS = "text/event-stream"

ERROR_TYPES = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    413: "payload_too_large",
    422: "unprocessable",
    429: "rate_limit_exceeded",
    500: "server",
    502: "provider_unavailable",
    503: "provider_overloaded",
    504: "timeout",
    524: "timeout",
    529: "provider_overloaded",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, wholly read: `headers` in lower case, `body` raw, `query` with the last value of each name."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: `payload` as JSON, or `events` as a stream, or `body` as it is. `cost` in USD, None for what is free.

    A `cancellable` stream is not paid for by a client who leaves before its end.
    """

    status: int = 200
    payload: dict[str, Any] | None = None
    events: tuple[bytes, ...] = ()
    body: bytes = b""
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    model: str = ""
    cost: float | None = None
    generation_id: str = ""
    delivery: Delivery = "whole"
    pause: float = 0.0
    cancellable: bool = False

    def content(self) -> bytes:
        """The bytes that go over the wire."""
        if self.events:
            return b"".join(self.events)
        return self.body if self.payload is None else json.dumps(self.payload).encode()


def event(body: dict[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def stream(bodies: Iterable[dict[str, Any]], **more: Any) -> Answer:
    """An event stream: a comment that keeps the line alive, the events, and the end mark."""
    return Answer(events=(COMMENT, *map(event, bodies), DONE), media_type=EVENTS, **more)


class Refused(Exception):
    """An endpoint says no: `status` and the provider's sentence, in the documented envelope."""

    def __init__(self, status: int, message: str, availability: dict[str, Any] | None = None, **metadata: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.availability = availability
        self.metadata = {"error_type": ERROR_TYPES.get(status, "unmapped"), **metadata}

    def answer(self) -> Answer:
        """The refusal as JSON."""
        return Answer(self.status, envelope(self.status, self.message, self.metadata, self.availability))


def envelope(
    code: int, message: str, metadata: dict[str, Any] | None = None, availability: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The documented error envelope."""
    error = {"code": code, "message": message, "metadata": metadata or {}}
    return {"error": error | ({"availability": availability} if availability else {}), "user_id": "user_emulated"}
