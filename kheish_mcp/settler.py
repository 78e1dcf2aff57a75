"""What exchanges cost whose answers did not say, asked of the providers' books until they know."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import anyio

from .catalog import Catalog
from .errors import KheishError
from .stores.ledger import Ledger, Unsettled

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
AGAIN_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # a generation is recorded a moment after its answer
AT_ONCE: Final = 4
OLDEST_S: Final = 7 * 86_400.0
YOUNG_S: Final = 3600.0


class Settler:
    """Looks for exchanges without a price and with the provider's id: speech, and what was interrupted.

    Each is asked for up to a minute, and once more by each later daemon of the same week; what the provider never
    recorded stays unknown. `now` gives seconds that only grow.
    """

    def __init__(
        self, ledger: Ledger, catalog: Callable[[], Catalog], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._now = now
        self._asked: dict[int, int] = {}
        self._due: dict[int, float] = {}

    async def run(self) -> None:
        """Looks again and again; a look that fails is no reason to stop looking."""
        while True:
            try:
                await self.look()
            except KheishError as error:
                log.warning("what is not settled cannot be looked up: %s", error.message)
            await anyio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """One look: asks for every exchange whose turn it is."""
        bills = await self._ledger.unsettled(time.time() - OLDEST_S)
        lanes = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as group:
            for bill in bills:
                if self._now() >= self._due.get(bill.number, 0.0):
                    group.start_soon(self._settle, bill, lanes)

    async def _settle(self, bill: Unsettled, lanes: anyio.CapacityLimiter) -> None:
        made = self._asked[bill.number] = self._asked.get(bill.number, 0) + 1
        again = made <= len(AGAIN_S) and time.time() - bill.created_at < YOUNG_S
        self._due[bill.number] = self._now() + AGAIN_S[made - 1] if again else float("inf")
        async with lanes:
            cost = await self._cost(bill)
        if cost is not None:
            await self._ledger.settle(bill.number, cost)

    async def _cost(self, bill: Unsettled) -> float | None:
        """What the provider says; None where it does not know yet, cannot be asked, or the route has gone."""
        offers = self._catalog().offers
        driver = next((offer.driver for offer in offers if offer.route_id == bill.route_id), None)
        try:
            return await driver.cost_of(bill.generation_id) if driver is not None else None
        except KheishError as error:
            log.debug("exchange %d is not settled yet: %s", bill.number, error.message)
            return None
