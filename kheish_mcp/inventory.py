"""The routes as they can be used now: read from settings, routes.toml and slots into one catalog."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .capabilities import Driver, ImageEdit, ImageGeneration
from .catalog import Absence, Catalog, Offer
from .conversation import TextGeneration
from .discovery import Discoveries
from .drivers import DRIVERS, flags_by_driver, open_driver
from .drivers.http import Endpoint
from .errors import ConfigError, KheishError, NotFound
from .routes import Route, Routes, builtin_routes, read_routes, with_address
from .secret import Secret
from .settings import Settings
from .stores.auth import AuthStore
from .stores.models import ModelStore
from .tools import TOOLS
from .workers import Workers


@dataclass(frozen=True, slots=True)
class Inventory:
    """The routes as last read, the catalog made of them, and what is wrong with routes.toml if anything is.

    `signature` is that of the files right before they were read: another one now says that a new look is due.
    """

    routes: Routes | None
    catalog: Catalog
    trouble: str | None
    signature: tuple[object, ...]

    @property
    def listed(self) -> tuple[str, ...]:
        """The names in tools/list."""
        return tuple(tool.name for tool in TOOLS if tool.listed_by(self.catalog))


class Inventories:
    """Reads routes and slots into an inventory, and keeps one driver per endpoint for as long as it is in use."""

    def __init__(self, settings: Settings, auth: AuthStore, workers: Workers) -> None:
        self.settings = settings
        self.auth = auth
        self.workers = workers
        self.discoveries = Discoveries(settings.discovery, ModelStore(settings.state_root))
        self._drivers: dict[tuple[str, Endpoint], Driver] = {}
        self._in_use: dict[Driver, tuple[str, ...]] = {}

    def signature(self) -> tuple[object, ...]:
        """Changes whenever a new look could find something else."""
        path = self.settings.routes_file
        try:
            stat = path.stat() if path is not None else None
        except OSError:
            stat = None
        return self.auth.signature(), stat and (stat.st_ino, stat.st_mtime_ns, stat.st_size)

    def read(self, earlier: Inventory | None = None) -> Inventory:
        """The inventory now; a routes file that cannot be used leaves the earlier routes standing, with the error."""
        signature = self.signature()
        trouble: str | None = None
        routes: Routes | None = earlier.routes if earlier is not None else None
        try:
            routes = self._routes()
        except ConfigError as error:
            trouble = error.message
        self._in_use.clear()
        offers = [self._offer(route) for route in routes.routes] if routes is not None else []
        reason = trouble if routes is None else None
        return Inventory(routes, Catalog(offers, trouble=reason), trouble, signature)

    async def discover(self) -> bool:
        """Asks the providers of the drivers in use whose lists are due; whether a new `read` would find something else."""
        return await self.discoveries.refresh(dict(self._in_use))

    def _routes(self) -> Routes:
        settings = self.settings
        if settings.routes_file is not None:
            routes = read_routes(settings.routes_file, drivers=flags_by_driver(), default_route=settings.default_route)
            return with_address(routes, settings.openrouter_base_url)
        has_key, has_slot = settings.openrouter_api_key is not None, self._has_slot("openrouter.primary")
        return builtin_routes(
            openrouter=has_key or has_slot,
            base_url=settings.openrouter_base_url,
            by_slot=not has_key,
            default_route=settings.default_route,
        )

    def _has_slot(self, ref: str) -> bool:
        try:
            return any(slot.slot_id == ref for slot in self.auth.list())
        except KheishError:
            return False

    def _offer(self, route: Route) -> Offer:
        kind = DRIVERS[route.driver]
        offer = Offer(
            route.route_id,
            route.driver,
            None,
            provider=kind.provider,
            base_url=route.base_url or kind.default_base_url,
            flags=route.flags,
            models=_models(route),
            limits=route.limits,
            declared=not kind.knows(route.base_url or kind.default_base_url or ""),
        )
        try:
            key = self._key(route)
        except KheishError as error:
            return replace(offer, absence=Absence(route.route_id, error.message.rstrip("."), error.hint))
        if key is None and kind.needs_key and (not offer.declared or route.api_key_env is not None):
            name = route.auth_ref or f"{route.driver}.primary"
            fix = f"kheish-daemon secrets set {name} --provider {route.driver}"
            return replace(offer, absence=Absence(route.route_id, "it has no key", fix))
        endpoint = Endpoint(route.route_id, offer.base_url or "", key, route.preferences)
        return self._learned(offer, self._driver(route.driver, endpoint))

    def _learned(self, offer: Offer, driver: Driver) -> Offer:
        """The offer of a driver, with when its models were discovered, or the absence where they have to be and were not."""
        self._in_use[driver] = _drawing(offer, driver)
        lacking = self.discoveries.absence(driver)
        if lacking is not None:
            fix = "look at the network, or set KHEISH_OPENROUTER_MODEL_DISCOVERY to best_effort"
            return replace(offer, absence=Absence(offer.route_id, lacking, fix))
        learned = self.discoveries.of(driver)
        warning = learned.trouble if learned is not None and self.settings.discovery == "required" else None
        return replace(offer, driver=driver, seen_at=learned.seen_at if learned is not None else None, warning=warning)

    def _key(self, route: Route) -> Secret | None:
        """The route's key; refuses with a reason where a slot is missing, of another provider, or cannot be opened."""
        if route.api_key is not None:
            return route.api_key
        if route.api_key_env is not None:
            return self.settings.variable(route.api_key_env)
        if route.auth_ref is None:
            return None
        fix = f"kheish-daemon secrets set {route.auth_ref} --provider {route.driver}"
        try:
            slot = self.auth.get(route.auth_ref)
        except NotFound as missing:
            raise NotFound(missing.message, hint=fix) from None
        if slot.provider != route.driver:
            raise NotFound(
                f"slot {slot.slot_id} holds a key for {slot.provider}, and the route needs one for {route.driver}",
                hint=fix,
            )
        return self.auth.open(route.auth_ref)

    def _driver(self, name: str, endpoint: Endpoint) -> Driver:
        known = self._drivers.get((name, endpoint))
        if known is None:
            known = self._drivers[name, endpoint] = open_driver(name, endpoint, self.workers)
            self.discoveries.recall(known, endpoint.base_url)
        return known

    async def close(self) -> None:
        """Closes every driver that was opened."""
        for driver in self._drivers.values():
            await driver.close()


def _models(route: Route) -> dict[str, tuple[str, ...]]:
    """The models that a route names by capability flag; its default model is the one for text."""
    return {**route.models, **({TextGeneration.flag: (route.default_model,)} if route.default_model else {})}


def _drawing(offer: Offer, driver: Driver) -> tuple[str, ...]:
    """The models that a route draws with where a call names none."""
    named = [
        offer.models.get(kind.flag) or driver.preferred.get(kind.flag, ()) for kind in (ImageGeneration, ImageEdit)
    ]
    return tuple(dict.fromkeys(model for models in named for model in models))
