"""What every route offers and which tools are listed, with the reason for each absence."""

from __future__ import annotations

from collections.abc import Iterable

from .capabilities import CAPABILITIES
from .catalog import Absence, Backend, Catalog
from .errors import Json, JsonObject
from .routes import Route, Routes
from .tools.base import Tool

MATRIX_VERSION = 2


def runtime_view(
    routes: Routes | None, catalog: Catalog, tools: Iterable[Tool], *, revision: int, trouble: str | None = None
) -> JsonObject:
    """The runtime as JSON, never with a secret: revision, default_route, routes, tools; `trouble` with routes.toml."""
    known = routes.routes if routes is not None else ()
    shown: list[Json] = [_route(route, catalog) for route in known]
    view: JsonObject = {
        "revision": revision,
        "default_route": routes.default_route if routes is not None else None,
        "routes": shown,
        "tools": [_tool(tool, catalog) for tool in tools],
    }
    return {**view, "error": trouble} if trouble else view


def _route(route: Route, catalog: Catalog) -> JsonObject:
    offer = next(offer for offer in catalog.offers if offer.route_id == route.route_id)
    cells = {kind.flag: cell for kind in CAPABILITIES for cell in catalog.row(kind) if cell.route_id == route.route_id}
    live = {flag: isinstance(cell, Backend) for flag, cell in cells.items()}
    reasons = [offer.absence.reason] if offer.absence else _reasons(cells.values())
    shown: JsonObject = {
        "route_id": route.route_id,
        "driver": route.driver,
        "provider": offer.provider,
        "model": route.default_model,
        "models": {flag: list(cell.models) for flag, cell in cells.items() if isinstance(cell, Backend) and cell.model},
        "base_url": offer.base_url,
        "state": "error" if offer.absence or not any(live.values()) else "warning" if reasons else "ok",
        "reasons": list(reasons),
        "capabilities": {"matrix_version": MATRIX_VERSION, **live},
    }
    return {**shown, "auth_ref": route.auth_ref} if route.auth_ref else shown


def _reasons(cells: Iterable[object]) -> list[str]:
    """What a usable route lacks although its driver could do it: an extra that is not installed."""
    return list(dict.fromkeys(cell.reason for cell in cells if isinstance(cell, Absence) and cell.fix))


def _tool(tool: Tool, catalog: Catalog) -> JsonObject:
    if tool.listed_by(catalog):
        return {"name": tool.name, "listed": True}
    return {"name": tool.name, "listed": False, "reason": tool.why_not(catalog)}
