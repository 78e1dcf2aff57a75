"""How much one HTTP server takes, and how long it waits, in bytes, seconds and numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes. Without them, a stock server keeps half a request for ever.

    `header_s` from the first moment to a whole request head, `body_idle_s` between two pieces of a body, `message_s` and
    `upload_s` for a whole body, `stall_s` until a client that reads nothing is cut off, `grace_s` for calls in flight
    when the server is told to stop. `calls_per_s` is what one principal may ask for in the long run, `calls_at_once`
    in one go; the failures are those of one address that is not let in.
    """

    header_s: float = 5.0
    keep_alive_s: int = 15
    body_idle_s: float = 10.0
    message_s: float = 30.0
    upload_s: float = 600.0
    stall_s: float = 30.0
    grace_s: float = 5.0
    session_idle_s: float = 1800.0
    head_bytes: int = 32 << 10
    message_bytes: int = 32 << 20
    connections: int = 8192
    sessions: int = 4096
    streams: int = 4096
    calls_per_s: float = 200.0
    calls_at_once: int = 2000
    failures_per_s: float = 1.0
    failures_at_once: int = 20
