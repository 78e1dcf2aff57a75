"""A value that does not print itself, and texts with such values taken out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MASK: Final = "[secret]"
SHORTEST_SCRUBBED: Final = 8


class Secret:
    """A secret string; `reveal` is the only way to its value, and the one word to search the code for."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


def scrub(text: str, secrets: Iterable[Secret]) -> str:
    """`text` with every literal occurrence of each secret masked; values under eight characters are left alone."""
    for secret in secrets:
        if len(secret.reveal()) >= SHORTEST_SCRUBBED:
            text = text.replace(secret.reveal(), MASK)
    return text
