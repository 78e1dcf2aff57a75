"""Moments as options name them: a date, a time, or a stretch of time from now."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

from ..errors import UsageError

STRETCH: Final = re.compile(r"(\d{1,5})([hdw])")
SECONDS: Final = {"h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def before_now(text: str, option: str) -> float:
    """The epoch time of a date or a time, which is UTC where it says no other, or of so long ago; else UsageError."""
    return _moment(text, option, -1)


def from_now(text: str, option: str) -> float:
    """As `before_now`, with a stretch of time that lies ahead; UsageError for a moment that is over."""
    moment = _moment(text, option, 1)
    if moment <= time.time():
        raise UsageError(f"{option} has passed already", hint="Such as 30d, 4w, or a date to come.")
    return moment


def told(moment: float | None) -> str | None:
    """Epoch seconds as ISO 8601 in UTC, to the second; None stays None."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _moment(text: str, option: str, direction: int) -> float:
    stretch = STRETCH.fullmatch(text)
    try:
        if stretch:
            return time.time() + direction * int(stretch[1]) * SECONDS[stretch[2]]
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"{option} cannot be {text[:32]!r}", hint="Such as 2026-11-01, 24h, 7d or 4w.") from None
