"""Which backends a call is tried on, one after the other, and what was in vain before one answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ..capabilities import Capability
from ..catalog import Backend
from ..errors import Code, Json, KheishError

C = TypeVar("C", bound=Capability)
T = TypeVar("T")

# Refusals that say nothing against the call itself. What a provider forbids (permission_denied) is not asked of another
# behind the caller's back, and what the caller can mend (invalid_argument) the caller mends.
PASSED_ON: Final = frozenset(
    {Code.NOT_FOUND, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.UNAUTHENTICATED}
)
# What OpenRouter calls the refusal of a model that it does not have, or not any more: 400 as well as 404 (2026-11-22).
NO_SUCH_MODEL: Final = frozenset({"model_not_found", "model_deprecated"})
OUT_OF_CREDIT: Final = 402


@dataclass(frozen=True, slots=True)
class Attempt:
    """A backend that was tried in vain, and its refusal, which cost nothing."""

    route_id: str
    model: str
    refusal: KheishError

    def as_json(self) -> Json:
        """As it stands in a result's `attempts`."""
        return {"route_id": self.route_id, "model": self.model, "error": self.refusal.as_json()}


@dataclass(frozen=True, slots=True)
class Made(Generic[C, T]):
    """What a backend gave, and those that were tried before it."""

    what: T
    backend: Backend[C]
    attempts: tuple[Attempt, ...]

    @property
    def warnings(self) -> list[str]:
        """A sentence for each backend that failed, with who answered in its place."""
        here = f"{self.backend.model} on route {self.backend.route_id}"
        return [
            f"{each.model} on route {each.route_id} failed, and {here} answered: {each.refusal.message}"
            for each in self.attempts
        ]

    @property
    def attempts_json(self) -> dict[str, Json]:
        """`attempts`, where there were any."""
        return {"attempts": [each.as_json() for each in self.attempts]} if self.attempts else {}


async def first_that_works(backends: Sequence[Backend[C]], attempt: Callable[[Backend[C]], Awaitable[T]]) -> Made[C, T]:
    """The first backend's result that there is.

    Another one is asked only after a failure that cost nothing and says nothing against the call; what is wrong with a
    key or an account is wrong with every model of its route. The last refusal is raised, with `attempts` in its details.
    """
    attempts: list[Attempt] = []
    left = list(backends)
    while True:
        backend = left.pop(0)
        try:
            return Made(await attempt(backend), backend, tuple(attempts))
        except KheishError as refusal:
            if _is_of_the_route(refusal):
                left = [other for other in left if other.route_id != backend.route_id]
            if not left or not passes_on(refusal):
                if attempts:
                    refusal.details["attempts"] = [each.as_json() for each in attempts]
                raise
            attempts.append(Attempt(backend.route_id, backend.model, refusal))


def passes_on(refusal: KheishError) -> bool:
    """Whether another backend may be asked: nothing was billed, no cap is in the way, and the call is not at fault."""
    if refusal.details.get("possibly_billed") or "cap" in refusal.details:
        return False
    return refusal.code in PASSED_ON or refusal.details.get("availability") in NO_SUCH_MODEL


def _is_of_the_route(refusal: KheishError) -> bool:
    return refusal.code is Code.UNAUTHENTICATED or refusal.details.get("status") == OUT_OF_CREDIT
