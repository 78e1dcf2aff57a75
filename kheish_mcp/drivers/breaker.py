"""A model that keeps failing is left alone for a while, and then tried with one call."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from ..errors import DeadlineExceeded, KheishError, Unavailable

IN_A_ROW: Final = 5
LAST, WITHIN_S = 20, 60.0
REST_S: Final = 30.0
PROBE_S: Final = 5.0
MOST_MODELS: Final = 256
FAILED_FROM: Final = 500


def is_failure(refusal: KheishError) -> bool:
    """Whether a refusal speaks against the provider: it failed, broke off or fell silent.

    What it says no to (3xx and 4xx, so also 402 and 429) is no failure, and says nothing of its health either.
    """
    status = refusal.details.get("status", FAILED_FROM)
    return isinstance(refusal, Unavailable | DeadlineExceeded) and isinstance(status, int) and status >= FAILED_FROM


@dataclass(slots=True)
class Breaker:
    """Closed, it lets every call through. Five failures in a row, or more than half of twenty calls in a minute, open it.

    Open, it lets nothing through for thirty seconds and then one call, the probe: that closes it, or opens it anew.
    """

    now: Callable[[], float]
    _in_a_row: int = 0
    _ended: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=LAST))
    _open_until: float | None = None
    _probing: bool = False

    def rest_s(self) -> float:
        """Seconds for which nothing is let through; zero where a call may go."""
        if self._open_until is None:
            return 0.0
        return PROBE_S if self._probing else max(0.0, self._open_until - self.now())

    def enter(self) -> bool:
        """A call goes through; whether it is the probe."""
        self._probing = self._open_until is not None
        return self._probing

    def leave(self, probe: bool, worked: bool | None) -> None:
        """A call has ended; None says nothing of the provider's health (it was cancelled, or told no)."""
        if probe:
            self._probing = False
        if worked is None:
            return
        self._in_a_row = 0 if worked else self._in_a_row + 1
        self._ended.append((self.now(), worked))
        if worked and self._open_until is not None:
            self._open_until = None
            self._ended.clear()
        elif not worked and (probe or (self._open_until is None and self._is_too_much())):
            self._open_until = self.now() + REST_S

    def _is_too_much(self) -> bool:
        """Whether this many failures open it."""
        if self._in_a_row >= IN_A_ROW:
            return True
        recent = len(self._ended) == LAST and self.now() - self._ended[0][0] <= WITHIN_S
        return recent and 2 * sum(not worked for _, worked in self._ended) > LAST


class Breakers:
    """The breakers of one route, one a model; `now` gives seconds that only grow. They change no tool list."""

    def __init__(self, route_id: str, now: Callable[[], float]) -> None:
        self._route_id = route_id
        self._now = now
        self._known: dict[str, Breaker] = {}

    @contextmanager
    def watching(self, model: str) -> Generator[None]:
        """One call of a model: Unavailable at once, with `retry_after_s`, while it is left alone; else it is watched."""
        breaker = self._of(model)
        rest = breaker.rest_s()
        if rest > 0:
            raise self._resting(model, math.ceil(rest))
        probe, worked = breaker.enter(), None
        try:
            yield
            worked = True
        except KheishError as refusal:
            worked = False if is_failure(refusal) else None
            raise
        finally:
            breaker.leave(probe, worked)

    def _of(self, model: str) -> Breaker:
        """The model's breaker; names come from callers, so only so many are remembered."""
        if model not in self._known and len(self._known) >= MOST_MODELS:
            del self._known[next(iter(self._known))]
        return self._known.setdefault(model, Breaker(self._now))

    def _resting(self, model: str, seconds: int) -> Unavailable:
        """The refusal for a call that is not let through."""
        return Unavailable(
            f"{model} on route {self._route_id} has failed too often and is left alone for {seconds} s.",
            hint="Nothing was asked of it. Use another model or route, or try again then.",
            retryable=True,
            retry_after_s=float(seconds),
            details={"possibly_billed": False},
        )
