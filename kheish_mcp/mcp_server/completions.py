"""What may stand in an argument that a client completes: routes, models, voices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from ..capabilities import ModelCard
from ..catalog import Catalog
from ..errors import InvalidArgument
from ..selectors import parse_selector


def completions(catalog: Catalog, argument: str, typed: str, chosen: Mapping[str, str]) -> tuple[str, ...]:
    """Every value of `argument` that begins with what was typed; none for an argument that is not completed here.

    `chosen` are the arguments that the client has already: a provider narrows models, provider and model narrow voices.
    """
    offer = OFFERED.get(argument)
    values = offer(catalog, typed, chosen) if offer is not None else ()
    return tuple(value for value in dict.fromkeys(values) if value.startswith(typed))


def _routes(catalog: Catalog, typed: str, chosen: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(catalog.routes)


def _models(catalog: Catalog, typed: str, chosen: Mapping[str, str]) -> tuple[str, ...]:
    """Model ids, and whole selectors once a route stands there."""
    cards = _cards(catalog, chosen.get("provider"))
    route_id, slash, _ = typed.partition("/")
    selectors = [f"{of}/{card.id}" for of, card in cards if slash and of == route_id]
    return (*(card.id for _, card in cards), *selectors)


def _voices(catalog: Catalog, typed: str, chosen: Mapping[str, str]) -> tuple[str, ...]:
    """The voices of the model that is chosen; of all models where none is, or one that nothing is known of."""
    cards = _cards(catalog, chosen.get("provider"))
    named = None
    with suppress(InvalidArgument):
        named = parse_selector(chosen.get("model", ""), catalog.routes).model
    own = [voice for _, card in cards if card.id == named for voice in card.voices]
    return tuple(own or (voice for _, card in cards for voice in card.voices))


def _cards(catalog: Catalog, route_id: str | None) -> list[tuple[str, ModelCard]]:
    """What is known of the models of a route, or of all of them."""
    offers = [offer for offer in catalog.offers if route_id in (None, "", offer.route_id)]
    return [(offer.route_id, card) for offer in offers if offer.driver is not None for card in offer.driver.models()]


OFFERED: Final[Mapping[str, Callable[[Catalog, str, Mapping[str, str]], tuple[str, ...]]]] = {
    "provider": _routes,
    "route_id": _routes,
    "model": _models,
    "voice": _voices,
}
