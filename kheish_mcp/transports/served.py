"""What an HTTP app needs of a daemon."""

from __future__ import annotations

from typing import Protocol

from ..errors import JsonObject
from ..mcp_server.listeners import Listeners
from ..tools.base import Parts


class Served(Protocol):
    """A running daemon, which lives on a floor above: its parts as they are now, and who hears of changes."""

    parts: Parts
    listeners: Listeners

    @property
    def has_usable_route(self) -> bool:
        """Whether the routes could be read and one of them has all that it needs."""

    async def runtime(self) -> JsonObject:
        """The runtime view as it is now."""
