"""One way to fail, and what it may need to know of the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.emulators.provider.answers import Answer, Asked


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the stand-in listens, as a fault may need to say: base URLs without a path, and the key."""

    own: str
    other: str
    alias: str
    key: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail. `instead` answers before anything is made or paid; `spoil` changes what was made.

    `paths` are the endpoints that it can strike (empty: all); `wait` is in seconds before anything is made, inf for ever.
    """

    name: str
    instead: Callable[[Asked, Origins], Answer] | None = None
    spoil: Callable[[Answer, Origins], Answer] | None = None
    paths: tuple[str, ...] = ()
    wait: float = 0.0
