"""When providers are asked what their models can do: in the background, once an hour, and never at the cost of a start."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import anyio.to_thread

from .capabilities import Driver, ModelCard
from .errors import KheishError
from .settings import Discovery
from .stores.models import ModelStore, Remembered

log = logging.getLogger(__name__)

FRESH_S: Final = 3600.0
RETRY_S: Final = 300.0
FIRST_S: Final = 1.0
SKEW_S: Final = 60.0
HOME: Final = "openrouter.ai"


@dataclass(slots=True)
class Learned:
    """What one driver has learned: when its provider said so, when it is asked next, and why it last said nothing."""

    base_url: str
    seen_at: float | None = None
    due_at: float = 0.0
    trouble: str | None = None


def is_asked(discovery: Discovery, base_url: str) -> bool:
    """Whether the provider at an address is asked: by default only OpenRouter's own, where `required` every one."""
    host = urlsplit(base_url).hostname or ""
    at_home = host == HOME or host.endswith(f".{HOME}")
    return discovery != "disabled" and bool(host) and (at_home or discovery == "required")


class Discoveries:
    """What each driver has learned. Nothing here refuses: a provider that cannot be asked leaves what was known before.

    Several processes share what is remembered: one that finds a fresh list there does not ask for another.
    """

    def __init__(self, discovery: Discovery, store: ModelStore, *, now: Callable[[], float] = time.time) -> None:
        self._discovery = discovery
        self._store = store
        self._now = now
        self._learned: dict[Driver, Learned] = {}

    def recall(self, driver: Driver, base_url: str) -> None:
        """Teaches a driver that was just opened what is remembered, however old, and plans when to ask anew."""
        if not is_asked(self._discovery, base_url):
            return
        learned = self._learned[driver] = Learned(base_url, due_at=self._now() + FIRST_S)
        remembered = self._store.recall(base_url)
        if remembered is not None:
            self._take_over(driver, learned, remembered)

    def hurry(self) -> None:
        """Whoever was never heard of is due at once."""
        for learned in self._learned.values():
            if learned.seen_at is None:
                learned.due_at = 0.0

    def of(self, driver: Driver) -> Learned | None:
        """What a driver has learned; None for one that nobody is asked for."""
        return self._learned.get(driver)

    def absence(self, driver: Driver) -> str | None:
        """Why a route may not be used: discovery is required, was tried, and nothing is known from earlier either."""
        learned = self._learned.get(driver)
        lacking = learned is not None and learned.seen_at is None and self._discovery == "required"
        return learned.trouble if learned is not None and lacking else None

    async def refresh(self, drivers: Mapping[Driver, Collection[str]]) -> bool:
        """Asks for what is due of these drivers, each with the models that it draws with; whether anything is new."""
        due = [(driver, its) for driver in drivers if (its := self._learned.get(driver)) and its.due_at <= self._now()]
        return any([await self._renew(driver, its, drivers[driver]) for driver, its in due])

    async def _renew(self, driver: Driver, learned: Learned, drawing: Collection[str]) -> bool:
        before = learned.seen_at, learned.trouble
        remembered = await anyio.to_thread.run_sync(self._store.recall, learned.base_url)
        if remembered is None or not self._is_fresh(remembered) or remembered.seen_at <= (learned.seen_at or 0.0):
            remembered = await self._asked(driver, learned, drawing)
        if remembered is not None:
            self._take_over(driver, learned, remembered)
        return before != (learned.seen_at, learned.trouble)

    async def _asked(self, driver: Driver, learned: Learned, drawing: Collection[str]) -> Remembered | None:
        """What the provider says now, kept for the other processes and the next start; None where it says nothing."""
        try:
            cards = await driver.discover(drawing)
        except KheishError as refusal:
            self._failed(learned, refusal.message)
            return None
        except Exception:
            log.exception("the list of models at %s could not be read", learned.base_url)
            self._failed(learned, "the list could not be read")
            return None
        if cards is None:
            learned.due_at = math.inf
            return None
        remembered = Remembered(cards, self._now())
        await anyio.to_thread.run_sync(self._keep, learned.base_url, cards, remembered.seen_at)
        return remembered

    def _keep(self, base_url: str, cards: tuple[ModelCard, ...], seen_at: float) -> None:
        try:
            self._store.remember(base_url, cards, seen_at)
        except KheishError as refusal:
            log.warning("the list of models is not kept: %s", refusal.message)

    def _failed(self, learned: Learned, trouble: str) -> None:
        level = logging.WARNING if learned.trouble is None else logging.DEBUG
        log.log(level, "the models at %s could not be discovered: %s", learned.base_url, trouble)
        learned.trouble = f"its models could not be discovered: {trouble.rstrip('.')}"
        learned.due_at = self._now() + RETRY_S * random.uniform(0.8, 1.2)  # noqa: S311 - to keep processes apart

    def _take_over(self, driver: Driver, learned: Learned, remembered: Remembered) -> None:
        driver.learn(remembered.cards)
        learned.seen_at, learned.trouble = remembered.seen_at, None
        if self._is_fresh(remembered):
            learned.due_at = remembered.seen_at + FRESH_S * random.uniform(1.0, 1.1)  # noqa: S311

    def _is_fresh(self, remembered: Remembered) -> bool:
        """Whether it is of the last hour; what comes from the future was written under another clock."""
        return -SKEW_S < self._now() - remembered.seen_at < FRESH_S
