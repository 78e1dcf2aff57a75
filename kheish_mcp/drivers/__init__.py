"""The drivers that a route may name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..capabilities import CAPABILITIES, Driver
from ..workers import Workers
from .http import Endpoint
from .local import Local
from .openai.driver import OpenAI
from .openrouter.driver import OpenRouter

DRIVERS: Final[dict[str, type[Driver]]] = {"openrouter": OpenRouter, "openai": OpenAI, "local": Local}
OPENERS: Final[dict[str, Callable[[Endpoint, Workers], Driver]]] = {
    "openrouter": lambda endpoint, workers: OpenRouter(endpoint),
    "openai": lambda endpoint, workers: OpenAI(endpoint, workers),
    "local": lambda endpoint, workers: Local(workers),
}


def open_driver(name: str, endpoint: Endpoint, workers: Workers) -> Driver:
    """A driver for one endpoint."""
    return OPENERS[name](endpoint, workers)


def flags_by_driver() -> dict[str, frozenset[str]]:
    """The capability flags that each driver has a backend for."""
    return {
        name: frozenset(kind.flag for kind in CAPABILITIES if issubclass(driver, kind))
        for name, driver in DRIVERS.items()
    }
