"""What OpenRouter's books say of a generation (facts of 2026-11-22)."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from ...errors import Json
from ..refusals import malformed, number

LOOKUP_S: Final = 20.0


def lookup_path(generation_id: str) -> str:
    """GET /generation for an id: 404 until the generation is recorded, a moment after its answer."""
    return f"/generation?id={quote(generation_id, safe='')}"


def decode_cost(answer: Json) -> float:
    """USD that a generation cost the account: `total_cost`, which is the only price that speech ever has."""
    data = answer.get("data") if isinstance(answer, dict) else None
    usd = number(data.get("total_cost")) if isinstance(data, dict) else None
    if usd is None:
        raise malformed("The provider's answer about a generation names no cost.")
    return usd
