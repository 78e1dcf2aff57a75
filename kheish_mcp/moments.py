"""A moment as it is told to clients."""

from __future__ import annotations

from datetime import UTC, datetime


def written(seconds: float) -> str:
    """Epoch seconds as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
