"""What the routes offer now: models, voices, sizes, formats, prices."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, Literal

from pydantic import Field

from ..capabilities import ModelCard
from ..catalog import KINDS, Backend, Catalog, Offer
from ..errors import Json, JsonObject
from ..moments import written
from ..selectors import select
from .base import Call, Input, Outcome, Tool

# Half of what hosts are known to cut at; a list that is longer is one to search in.
LARGEST: Final = 48_000
OLD_S: Final = 2 * 3600
AGES: Final = ((86_400, "days"), (3600, "hours"), (60, "minutes"))


class ListModels(Input):
    """Lists the models that the other tools accept now, with voices, sizes, formats, prices and how to prompt them."""

    capability: Literal["text", "image_generation", "image_edit", "audio_generation", "transcription"] | None = Field(
        None, description="Only models that can do this."
    )
    query: str | None = Field(None, max_length=200, description="Words in a model's id or name.")
    provider: str | None = Field(None, max_length=128, description="Only this route id.")
    limit: int = Field(50, ge=1, le=200, description="At most so many.")


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "models": {"type": "array", "items": {"type": "object"}, "description": "Default first."},
        "truncated": {"type": "boolean", "description": "Whether there are more."},
    },
    "required": ["models", "truncated"],
}


async def run(given: ListModels, call: Call) -> Outcome:
    """Cards in route order, those that are used by default first; as many as were asked and fit.

    `as_of` says when each route's provider listed its models, and a note where that is long ago.
    """
    only = select(None, given.provider, call.catalog.routes).route_id
    offers = [offer for offer in call.catalog.offers if only in (None, offer.route_id)]
    found = [
        _shown(offer.route_id, card)
        for offer in offers
        for card in _cards(call.catalog, offer, given.capability)
        if given.capability in (None, *card.capabilities) and _matches(card, given.query or "")
    ]
    models = _fitting(found[: given.limit])
    result: JsonObject = {"models": [*models], "truncated": len(models) < len(found)}
    return Outcome(result | _age([offer for offer in offers if offer.driver is not None], time.time()))


def _cards(catalog: Catalog, offer: Offer, wanted: str | None) -> Iterator[ModelCard]:
    """A route's models with what each can do there now: those that are tried by default, then the others by id.

    Of the defaults, those for the capability that is `wanted` come first.
    """
    live = {
        kind.flag: cell.models
        for kind in KINDS
        for cell in catalog.row(kind)
        if isinstance(cell, Backend) and cell.route_id == offer.route_id
    }
    # Sight is a model's own matter wherever text is answered; the route's switch is about its default model.
    flags = {*live, "multimodal_input"} if "text" in live else {*live} - {"multimodal_input"}
    known = {card.id: card for card in offer.driver.models()} if offer.driver is not None else {}
    first = dict.fromkeys(model for models in (live.get(wanted or "", ()), *live.values()) for model in models if model)
    for model in (*first, *sorted(known.keys() - first.keys())):
        card = known.get(model, ModelCard(model, ()))
        can = dict.fromkeys((*(flag for flag, models in live.items() if model in models), *card.capabilities))
        shown = replace(card, capabilities=tuple(flag for flag in can if flag in flags))
        if shown.capabilities:
            yield shown


def _matches(card: ModelCard, query: str) -> bool:
    """Whether every word of a query stands in the id or the name."""
    text = f"{card.id} {card.name}".casefold()
    return all(word in text for word in query.casefold().split())


def _shown(route_id: str, card: ModelCard) -> JsonObject:
    shown: JsonObject = {"id": card.id, "route_id": route_id, "capabilities": list(card.capabilities)}
    more: dict[str, Json] = {
        "name": card.name,
        "inputs": list(card.inputs),
        "outputs": list(card.outputs),
        "voices": list(card.voices),
        "sizes": list(card.sizes),
        "formats": list(card.formats),
        "price": card.price,
        "context_tokens": card.context_tokens,
        "note": card.note,
    }
    return shown | {key: value for key, value in more.items() if value}


def _fitting(models: Iterable[JsonObject]) -> list[JsonObject]:
    """The first of them that fit into one answer."""
    fitting: list[JsonObject] = []
    room = LARGEST
    for model in models:
        room -= len(json.dumps(model))
        if room < 0 and fitting:
            break
        fitting.append(model)
    return fitting


def _age(offers: Iterable[Offer], now: float) -> JsonObject:
    """When each provider listed its models; nothing where none did."""
    seen = {offer.route_id: offer.seen_at for offer in offers if offer.seen_at is not None}
    if not seen:
        return {}
    moments: JsonObject = {route_id: written(seen_at) for route_id, seen_at in seen.items()}
    notes: list[Json] = [
        f"{route_id}'s provider could not be asked for {_span(now - seen_at)}: prices and models may have changed."
        for route_id, seen_at in seen.items()
        if now - seen_at > OLD_S
    ]
    return {"as_of": moments, **({"notes": notes} if notes else {})}


def _span(seconds: float) -> str:
    """A time span in its largest unit of which it holds at least two."""
    size, unit = next((size, unit) for size, unit in AGES if seconds >= 2 * size)
    return f"{seconds // size:g} {unit}"


TOOL = Tool("list_models", "List models", ListModels, run, writes=False, output_schema=SCHEMA)
