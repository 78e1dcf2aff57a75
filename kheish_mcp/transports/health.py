"""Whether the daemon is alive, and whether it can do its work; told to anybody, so without reasons and names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import KheishError
from .served import Served

CHECK_S: Final = 5.0
UNCACHED: Final = {"Cache-Control": "no-store"}


class Health:
    """The two probes of a daemon; `is_leaving` says that it is on its way out, which takes it off the balancer."""

    def __init__(self, daemon: Served, is_leaving: Callable[[], bool]) -> None:
        self._daemon = daemon
        self._is_leaving = is_leaving

    async def alive(self, request: Request) -> Response:
        """`/healthz`: the loop turns."""
        return JSONResponse({"status": "ok"}, headers=UNCACHED)

    async def ready(self, request: Request) -> Response:
        """`/readyz`: the store answers and some route can be used; 503 else. What is wrong is told by `doctor`."""
        checks = {
            "storage": await self._storage(),
            "routes": self._daemon.has_usable_route,
            "serving": not self._is_leaving(),
        }
        shown = {name: "ok" if good else "error" for name, good in checks.items()}
        good = all(checks.values())
        body = {"status": "ok" if good else "error", "checks": shown}
        return JSONResponse(body, 200 if good else 503, UNCACHED)

    async def _storage(self) -> bool:
        return await _works(self._daemon.parts.assets.newest)


async def _works(check: Callable[[], Awaitable[object]]) -> bool:
    try:
        with anyio.fail_after(CHECK_S):
            await check()
    except (KheishError, TimeoutError):
        return False
    return True
