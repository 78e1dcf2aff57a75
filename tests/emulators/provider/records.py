"""What the stand-in saw, and what it was paid."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bill:
    """One successful generation: USD, the clock's seconds, and the request's body as it came."""

    generation_id: str
    endpoint: str
    model: str
    cost: float
    at: float
    asked: bytes = b""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request; `path` is below the base, `status` and `ended` are None while it is being answered.

    `body` is parsed where it is JSON; `peer` is the client's port, one for each connection.
    `disconnected` says that the client left before it had its whole answer.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    started: float
    status: int | None = None
    ended: float | None = None
    disconnected: bool = False
    peer: int = 0


def parsed(body: bytes) -> Any:
    """The body as JSON where it is JSON, else its bytes."""
    try:
        return json.loads(body)
    except ValueError:
        return body


def once(action: Callable[[], None]) -> Callable[[], None]:
    """An action that happens at the first call alone."""
    left = [action]
    return lambda: left.pop()() if left else None
