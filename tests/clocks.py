"""A clock for tests: it stands still until somebody waits by it or moves it, and remembers every wait."""

from __future__ import annotations

from kheish_mcp.drivers.patience import Clock


class Clockwork:
    """Seconds that only a wait or a test moves, and a chance that is always the same."""

    def __init__(self, chance: float = 0.0) -> None:
        self.time = 1000.0
        self.waits: list[float] = []
        self.clock = Clock(lambda: self.time, self._sleep, lambda: chance)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds
