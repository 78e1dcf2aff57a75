"""Who may pass: one gate for every route that gives or takes something."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import KheishError, PermissionDenied, ResourceExhausted, Unauthenticated
from ..principals import Principal
from .access import Access
from .limits import Limits

REMEMBERED: Final = 10_000


class Pace:
    """A bucket of tokens for each name: `at_once` of them, refilled at `per_s`; the names not seen longest are forgotten."""

    def __init__(self, per_s: float, at_once: int, now: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._at_once = float(at_once)
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, name: str, taken: int = 0) -> float:
        """Takes so many tokens if there is at least one; else the seconds until there is one, and 0 if there is."""
        now = self._now()
        left, seen = self._left.pop(name, (self._at_once, now))
        left = min(self._at_once, left + (now - seen) * self._per_s)
        wait = 0.0 if left >= 1 else (1 - left) / self._per_s
        self._left[name] = (left if wait else left - taken, now)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        return wait


class Gate:
    """Finds out who asks, and refuses who may not or who asks too often."""

    def __init__(self, access: Access, limits: Limits) -> None:
        self._access = access
        self._calls = Pace(limits.calls_per_s, limits.calls_at_once)
        self._failures = Pace(limits.failures_per_s, limits.failures_at_once)

    async def admit(self, request: HTTPConnection) -> Principal:
        """Who asks; over HTTP nobody is at hand, so that no path of this machine is told."""
        address = request.client.host if request.client else ""
        _refuse_haste(self._failures.wait_s(address))
        try:
            principal = await self._access.judge(request.headers.get("authorization"))
        except (Unauthenticated, PermissionDenied):
            self._failures.wait_s(address, 1)
            raise
        self.count(principal.owner)
        return replace(principal, at_hand=False)

    def count(self, owner: str) -> None:
        """One request more of an owner; ResourceExhausted where there are too many."""
        _refuse_haste(self._calls.wait_s(owner, 1))

    def challenge(self, error: KheishError, base_url: str) -> dict[str, str]:
        """The header that tells a client how to get in, for the refusals that are about that."""
        scoped = isinstance(error, PermissionDenied) and "needed_scope" in error.details
        if not isinstance(error, Unauthenticated) and not scoped:
            return {}
        return {"WWW-Authenticate": self._access.challenge(error, base_url)}


class Guarded:
    """An app behind a gate; it finds its principal in the request's state."""

    def __init__(self, gate: Gate, app: ASGIApp) -> None:
        self._gate = gate
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on the request of who may."""
        principal = await self._gate.admit(HTTPConnection(scope))
        scope.setdefault("state", {})["principal"] = principal
        # The SDK binds its sessions to this user, and answers others as if there were no such session.
        scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=principal.owner, scopes=[]))
        await self._app(scope, receive, send)


def principal_of(request: HTTPConnection) -> Principal:
    """Who sent a request that came through the gate."""
    principal: Principal = request.state.principal
    return principal


def _refuse_haste(wait_s: float) -> None:
    if wait_s:
        raise ResourceExhausted(
            "Too many requests.", hint="Wait as long as Retry-After says.", retryable=True, retry_after_s=wait_s
        )
