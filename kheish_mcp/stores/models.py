"""What a provider says its models can do, remembered: one file an address, with the time when it was said.

The crash story: a file is replaced whole or not at all, the last writer wins, and a file that cannot be read or that
is not what was written is as good as none. It can always be asked for again, so nothing here is worth a refusal.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ..capabilities import ModelCard
from ..errors import Json, KheishError
from .disk import make_folder, read_private, refusing, write_over

FORMAT: Final = 1
LARGEST: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Remembered:
    """The cards of one address and when they were seen there, as an epoch time."""

    cards: tuple[ModelCard, ...]
    seen_at: float


class ModelStore:
    """The lists of models in a state root; `recall` and `remember` block for a file of some hundred kilobytes."""

    def __init__(self, state_root: Path) -> None:
        self._folder = state_root / "models"

    def recall(self, base_url: str) -> Remembered | None:
        """What was last remembered of an address; None where there is nothing that can be used."""
        try:
            data = read_private(self._file(base_url), LARGEST)
            return None if data is None else _read(json.loads(data), base_url)
        except (KheishError, ValueError, RecursionError, TypeError):
            return None

    def remember(self, base_url: str, cards: tuple[ModelCard, ...], seen_at: float) -> None:
        """Replaces what was remembered of an address; refuses as the disk does, which then holds what it held."""
        held = {
            "format": FORMAT,
            "base_url": base_url,
            "seen_at": seen_at,
            "cards": [_written(card) for card in cards],
        }
        with refusing():
            make_folder(self._folder)
            write_over(self._file(base_url), json.dumps(held, separators=(",", ":")).encode())

    def _file(self, base_url: str) -> Path:
        """The file of an address, whose name shows nothing of it."""
        return self._folder / f"{hashlib.sha256(base_url.encode()).hexdigest()[:32]}.json"


def _written(card: ModelCard) -> dict[str, Any]:
    """A card as JSON, without the fields that say nothing."""
    return {name: value for name, value in asdict(card).items() if value not in ((), {}, "", None)}


def _read(held: Json, base_url: str) -> Remembered | None:
    """The content of a file; None for another format and another address, ValueError or TypeError for no cards."""
    table = held if isinstance(held, dict) else {}
    if (table.get("format"), table.get("base_url")) != (FORMAT, base_url):
        return None
    cards, seen_at = table.get("cards"), _number(table.get("seen_at"))
    if not isinstance(cards, list) or not cards:
        return None
    return Remembered(tuple(_card(entry) for entry in cards), seen_at)


def _card(entry: Json) -> ModelCard:
    if not isinstance(entry, dict):
        raise ValueError("a card is a table")
    return ModelCard(
        **{name: FIELDS[name](value) for name, value in {"capabilities": [], **entry}.items() if name in FIELDS}
    )


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is a string")
    return value


def _texts(value: Json) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("texts are a list")
    return tuple(_text(entry) for entry in value)


def _number(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError("a number is finite and not below zero")
    return float(value)


def _whole(value: Json) -> int:
    return int(_number(value))


def _table(read: Callable[[Json], Any]) -> Callable[[Json], Mapping[str, Any]]:
    """The reader of a table whose values `read` reads."""

    def table(value: Json) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("a table is a table")
        return {name: read(entry) for name, entry in value.items()}

    return table


# A field that is not listed here would be forgotten; a test holds this against the card.
FIELDS: Final[Mapping[str, Callable[[Json], Any]]] = {
    **dict.fromkeys(("id", "price", "note", "name"), _text),
    **dict.fromkeys(
        ("capabilities", "voices", "sizes", "formats", "inputs", "outputs", "parameters", "aliases"), _texts
    ),
    **dict.fromkeys(("context_tokens", "most_references"), _whole),
    "prices": _table(_number),
    "knobs": _table(_texts),
}
