"""What the routes offer now: models, voices, sizes, formats, prices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from ..capabilities import CAPABILITIES, ModelCard
from ..catalog import Backend, Catalog
from ..errors import Json, JsonObject
from .base import Call, Input, Outcome, Tool


class ListModels(Input):
    """Lists the models that the other tools accept now, with voices, sizes, formats, prices and how to prompt them."""

    capability: Literal["text", "image_generation", "image_edit", "audio_generation", "transcription"] | None = Field(
        None, description="Only models that can do this."
    )
    query: str | None = Field(None, max_length=200, description="Part of a model's id.")
    provider: str | None = Field(None, max_length=128, description="Only this route id.")
    limit: int = Field(50, ge=1, le=200, description="At most so many.")


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "models": {"type": "array", "items": {"type": "object"}},
        "truncated": {"type": "boolean"},
    },
    "required": ["models", "truncated"],
}


async def run(given: ListModels, call: Call) -> Outcome:
    """Cards in route order; a route that offers nothing lists nothing."""
    found = [
        (route_id, card)
        for route_id, card in _cards(call.catalog)
        if given.provider in (None, route_id)
        and (given.capability is None or given.capability in card.capabilities)
        and (given.query or "").lower() in card.id.lower()
    ]
    models: list[Json] = [_shown(route_id, card) for route_id, card in found[: given.limit]]
    return Outcome({"models": models, "truncated": len(found) > given.limit})


def _cards(catalog: Catalog) -> Iterator[tuple[str, ModelCard]]:
    """Each route's models: those named for a live capability, with what the driver knows of them."""
    for offer in catalog.offers:
        named: dict[str, tuple[str, ...]] = {}
        for kind in CAPABILITIES:
            for cell in catalog.row(kind):
                if isinstance(cell, Backend) and cell.route_id == offer.route_id:
                    for model in filter(None, cell.models):
                        named[model] = (*named.get(model, ()), kind.flag)
        known = {card.id: card for card in offer.driver.models()} if offer.driver is not None else {}
        for model, flags in named.items():
            yield offer.route_id, replace(known.get(model, ModelCard(model, ())), capabilities=flags)


def _shown(route_id: str, card: ModelCard) -> JsonObject:
    shown: JsonObject = {"id": card.id, "route_id": route_id, "capabilities": list(card.capabilities)}
    more: dict[str, Json] = {
        "voices": list(card.voices),
        "sizes": list(card.sizes),
        "formats": list(card.formats),
        "price": card.price,
        "note": card.note,
    }
    return shown | {key: value for key, value in more.items() if value}


TOOL = Tool("list_models", "List models", ListModels, run, writes=False, output_schema=SCHEMA)
