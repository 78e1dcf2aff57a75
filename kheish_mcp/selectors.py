"""`route/vendor/model`: read, written, never guessed twice."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from .errors import InvalidArgument, NotFound

LONGEST: Final = 256
VENDOR_PREFIXED: Final = frozenset({"openrouter"})  # drivers whose every model id holds a `/`


@dataclass(frozen=True, slots=True)
class Selector:
    """A choice of route and model; None leaves that part open. As text it reads back as the same choice."""

    route_id: str | None = None
    model: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.route_id, self.model) if part is not None)


OPEN: Final = Selector()


def parse_selector(text: str, routes: Mapping[str, str]) -> Selector:
    """Reads a selector; `routes` maps each route id to its driver's name. Case counts, blanks around it do not.

    Split at the first `/`: a known route id on the left makes the rest the model, else all of it is a model. Where the
    route's driver knows only ids with a `/`, a rest without one is no model, so `openrouter/auto` is all of it a model.
    InvalidArgument for an empty text, `ROUTE/` with nothing behind, control characters, more than 256 characters.
    """
    text = _clean(text, "A selector")
    left, slash, rest = text.partition("/")
    rest = rest.strip()
    if not slash or left not in routes:
        return Selector(model=text)
    if not rest:
        raise InvalidArgument(f"The selector {left}/ names a route and no model.", hint=f"Write {left}/MODEL.")
    if routes[left] in VENDOR_PREFIXED and "/" not in rest:
        return Selector(model=text)
    return Selector(left, rest)


def select(model: str | None, provider: str | None, routes: Mapping[str, str]) -> Selector:
    """A call's own choice from its `model` (a selector) and its `provider` (a route id).

    InvalidArgument names both where they contradict each other; NotFound lists the routes where the id is unknown.
    """
    if provider is not None:
        provider = _clean(provider, "A provider")
        if provider not in routes:
            raise unknown_route(provider, routes)
    if model is None:
        return Selector(provider)
    chosen = parse_selector(model, routes)
    if provider is None or chosen.route_id is None:
        return Selector(provider or chosen.route_id, chosen.model)
    if chosen.route_id != provider:
        raise InvalidArgument(
            f"provider says route {provider}, and model begins with route {chosen.route_id}.",
            hint=f"Leave provider out, or write {provider}/{chosen} if that is a model's whole id.",
        )
    return chosen


def settle(*choices: Selector) -> Selector:
    """The choice that stands where each of `choices` outranks those behind it.

    The first route that is named is the route, and the first model the model; but a model that was chosen together
    with another route does not come along.
    """
    route_id = next((choice.route_id for choice in choices if choice.route_id is not None), None)
    models = (choice.model for choice in choices if choice.route_id in (None, route_id))
    return Selector(route_id, next((model for model in models if model is not None), None))


def unknown_route(route_id: str, routes: Mapping[str, str]) -> NotFound:
    """The refusal for a route id that nobody knows, with the nearest that is known."""
    near = get_close_matches(route_id, routes, 1)
    guess = f" Did you mean {near[0]}?" if near else ""
    return NotFound(
        f"There is no route {route_id!r}.{guess}",
        hint=f"provider is a route id: {', '.join(routes) or 'none is there'}.",
    )


def _clean(text: str, what: str) -> str:
    text = text.strip()
    if not text:
        raise InvalidArgument(f"{what} is empty.", hint="A model id, or ROUTE/model; as provider, a route id.")
    if len(text) > LONGEST or any(unicodedata.category(character)[0] == "C" for character in text):
        raise InvalidArgument(
            f"{what} has at most {LONGEST} characters and no control characters.", hint="list_models shows model ids."
        )
    return text
