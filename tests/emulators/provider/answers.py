"""What an endpoint is asked and what it answers, before a fault or the wire touches either."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Delivery = Literal["whole", "cut", "drip", "reset-before", "reset-after", "hang"]

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
    """One answer; `payload` is sent as JSON, else `body` as it is. `cost` in USD, None for what nobody pays."""

    status: int = 200
    payload: dict[str, Any] | None = None
    body: bytes = b""
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    model: str = ""
    cost: float | None = None
    generation_id: str = ""
    delivery: Delivery = "whole"
    pause: float = 0.0

    def content(self) -> bytes:
        """The bytes that go over the wire."""
        return self.body if self.payload is None else json.dumps(self.payload).encode()


class Refused(Exception):
    """An endpoint says no: `status` and the provider's sentence, in the documented envelope."""

    def __init__(self, status: int, message: str, **metadata: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.metadata = {"error_type": ERROR_TYPES.get(status, "unmapped"), **metadata}

    def answer(self) -> Answer:
        """The refusal as JSON."""
        return Answer(self.status, envelope(self.status, self.message, self.metadata))


def envelope(code: int, message: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """The documented error envelope."""
    return {"error": {"code": code, "message": message, "metadata": metadata or {}}, "user_id": "user_emulated"}
