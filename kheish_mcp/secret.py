"""A value that does not print itself, and texts with such values taken out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from weakref import WeakValueDictionary

MASK: Final = "[secret]"
KEYLIKE: Final = re.compile(
    r"\bsk-[A-Za-z0-9_-]{8,}|\bkheish_[a-z2-7]{26}_[a-z2-7]{20,}|\bBearer\s+\S{12,}", re.IGNORECASE
)
SHORTEST_SCRUBBED: Final = 8


class Secret:
    """A secret string; `reveal` is the only way to its value, and the one word to search the code for."""

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        _living[id(self)] = self

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


_living: Final[WeakValueDictionary[int, Secret]] = WeakValueDictionary()


def scrub_all(text: str) -> str:
    """`text` without any secret that this process holds, and without what looks like one: for logs and tracebacks."""
    living = [secret for place in _living.valuerefs() if (secret := place()) is not None]
    return KEYLIKE.sub(MASK, scrub(text, sorted(living, key=lambda secret: -len(secret.reveal()))))


def scrub(text: str, secrets: Iterable[Secret]) -> str:
    """`text` with every literal occurrence of each secret masked; values under eight characters are left alone."""
    for secret in secrets:
        if len(secret.reveal()) >= SHORTEST_SCRUBBED:
            text = text.replace(secret.reveal(), MASK)
    return text
