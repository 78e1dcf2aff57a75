"""What every route offers and which tools are listed, with the reason for each absence."""

from __future__ import annotations

from collections.abc import Iterable

from .capabilities import CAPABILITIES
from .catalog import Absence, Backend, Catalog, Offer
from .errors import ConfigError, InvalidArgument, Json, JsonObject
from .routes import Route, Routes
from .selectors import Selector, parse_selector, settle
from .stores.policy import Choice
from .tools.base import Tool

MATRIX_VERSION = 2


def runtime_view(
    routes: Routes | None, catalog: Catalog, tools: Iterable[Tool], *, choice: Choice, trouble: str | None = None
) -> JsonObject:
    """The runtime as JSON, never with a secret: revision, default_route, routes, tools; `trouble` with routes.toml.

    The default route and its model are those of `runtime set-model` where it was used, else those of routes.toml.
    """
    known = routes.routes if routes is not None else ()
    shown: list[Json] = [_route(route, catalog, choice.selector) for route in known]
    view: JsonObject = {
        "revision": choice.revision,
        "default_route": choice.selector.route_id or (routes.default_route if routes is not None else None),
        "routes": shown,
        "tools": [_tool(tool, catalog) for tool in tools],
    }
    return {**view, "error": trouble} if trouble else view


def chosen_text(routes: Routes | None, text: str, standing: Selector) -> tuple[str, str]:
    """The route and the model that a selector means as a choice for text runs; `standing` is the choice before it.

    A model without a route is for the standing route, else for the default one. ConfigError where there are no routes,
    InvalidArgument for a route that has no text model, and the refusals of the selector.
    """
    if routes is None:
        raise ConfigError("There are no routes to choose from.", hint="`kheish-daemon runtime get` says why.")
    drivers = {route.route_id: route.driver for route in routes.routes}
    chosen = settle(parse_selector(text, drivers), standing, Selector(routes.default_route))
    route = next((route for route in routes.routes if route.route_id == chosen.route_id), None)
    if chosen.model in drivers or route is None or chosen.model is None:
        raise InvalidArgument(f"{text.strip()!r} names no model.", hint="Write ROUTE/MODEL.")
    if route.default_model is None:
        raise InvalidArgument(
            f"Route {route.route_id} has no text model.", hint="Name another route: `kheish-daemon runtime get`."
        )
    return route.route_id, chosen.model


def _route(route: Route, catalog: Catalog, choice: Selector) -> JsonObject:
    offer = next(offer for offer in catalog.offers if offer.route_id == route.route_id)
    cells = {kind.flag: cell for kind in CAPABILITIES for cell in catalog.row(kind) if cell.route_id == route.route_id}
    live = {flag: isinstance(cell, Backend) for flag, cell in cells.items()}
    reasons = [offer.absence.reason] if offer.absence else _reasons(offer, cells.values())
    shown: JsonObject = {
        "route_id": route.route_id,
        "driver": route.driver,
        "provider": offer.provider,
        "model": choice.model if choice.route_id == route.route_id else route.default_model,
        "models": {flag: list(cell.models) for flag, cell in cells.items() if isinstance(cell, Backend) and cell.model},
        "base_url": offer.base_url,
        "state": "error" if offer.absence or not any(live.values()) else "warning" if reasons else "ok",
        "reasons": list(reasons),
        "capabilities": {"matrix_version": MATRIX_VERSION, **live},
    }
    return {**shown, "auth_ref": route.auth_ref} if route.auth_ref else shown


def _reasons(offer: Offer, cells: Iterable[object]) -> list[str]:
    """What is wrong with a usable route: its warning, and what it lacks although its driver could do it."""
    lacking = [cell.reason for cell in cells if isinstance(cell, Absence) and cell.fix]
    return list(dict.fromkeys([offer.warning, *lacking] if offer.warning else lacking))


def _tool(tool: Tool, catalog: Catalog) -> JsonObject:
    if tool.listed_by(catalog):
        return {"name": tool.name, "listed": True}
    return {"name": tool.name, "listed": False, "reason": tool.why_not(catalog)}
